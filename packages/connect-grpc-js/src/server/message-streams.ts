import { Code, ConnectError } from "@connectrpc/connect";

/**
 * Converts each item of an iterable.
 *
 * Not a generator: a generator that waits for its source passes `return()` on only after the next
 * item, so it could not end a source that waits.
 */
export function mapIterable<From, To>(
  source: AsyncIterable<From>,
  convert: (item: From) => To,
): AsyncIterable<To> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = source[Symbol.asyncIterator]();
      const converted = (result: IteratorResult<From>): IteratorResult<To> =>
        result.done ? result : { done: false, value: convert(result.value) };
      return {
        next: async () => converted(await iterator.next()),
        return: async (value) =>
          iterator.return ? converted(await iterator.return(value)) : { done: true, value },
      };
    },
  };
}

/**
 * Returns the only message of a request.
 *
 * @throws ConnectError (Unimplemented) if there is no message or a second one. gRPC prescribes the
 * code, because such a client takes the method for another kind.
 * https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
 */
export async function onlyMessage<Item extends object>(
  messages: AsyncIterable<Item>,
): Promise<Item> {
  let only: Item | undefined;
  for await (const message of messages) {
    if (only !== undefined) {
      throw new ConnectError("received a second request message", Code.Unimplemented);
    }
    only = message;
  }
  if (only === undefined) throw new ConnectError("received no request message", Code.Unimplemented);
  return only;
}

/**
 * Sends all items of an iterable, one after the other.
 *
 * When the signal aborts, asks for no further item and closes the iterable without waiting for its
 * next item. That runs the `finally` of a generator whose client has gone.
 */
export async function sendAll<Item>(
  items: AsyncIterable<Item>,
  send: (item: Item) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const iterator = items[Symbol.asyncIterator]();
  let open = true;
  const close = () => {
    if (open) {
      open = false;
      void closeQuietly(iterator);
    }
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    while (!signal.aborted) {
      const result = await iterator.next();
      if (result.done) {
        open = false;
        return;
      }
      if (!signal.aborted) {
        await send(result.value);
      }
    }
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

async function closeQuietly(iterator: AsyncIterator<unknown>): Promise<void> {
  try {
    await iterator.return?.();
  } catch (_error) {
    // The call has its status already, so nobody could receive this error.
  }
}
