import { type Address, formatAddress } from "../network/address.js";

/**
 * The error for an address that cannot be listened on. One that is in use is all
 * there is to say, with the flag that takes another; anything else is the cause.
 */
export function listenFailure(
  address: Address,
  flag: "--grpc-address" | "--http-address",
  cause: Error,
): Error {
  const failure = `cannot listen on ${formatAddress(address)}`;
  // grpc-js has the system's code in its message alone.
  return cause.message.includes("EADDRINUSE")
    ? new Error(`${failure}: the address is in use (EADDRINUSE); ${flag} takes another`)
    : new Error(failure, { cause });
}
