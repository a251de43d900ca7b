import { Code, ConnectError } from "@connectrpc/connect";

/**
 * Converts each item of an iterable.
 *
 * Not a generator: one that waits for an item of its source passes `return()`
 * on only when that item has come, and so could not end a source that waits.
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

/** An iterable of one item. */
export async function* iterableOf<Item>(item: Item): AsyncGenerator<Item> {
  yield item;
}

/**
 * Takes the only message of a request.
 *
 * @throws ConnectError (Unimplemented) when there is none or a second one: the
 * code that gRPC prescribes, because such a client takes the method for another
 * kind than it is. https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
 */
export async function onlyMessage<Item>(messages: AsyncIterable<Item>): Promise<Item> {
  const received: Item[] = [];
  for await (const message of messages) {
    if (received.length === 1) {
      throw new ConnectError("received a second request message", Code.Unimplemented);
    }
    received.push(message);
  }
  for (const message of received) {
    return message;
  }
  throw new ConnectError("received no request message", Code.Unimplemented);
}

/**
 * Sends all items of an iterable, each after the one before is sent.
 *
 * When the signal aborts, this asks for no further item, and closes the
 * iterable at once and not after its next item: that is what runs the `finally`
 * of a generator whose client has gone.
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

/** Nobody is left to hear of an error that an iterator throws while it closes. */
async function closeQuietly(iterator: AsyncIterator<unknown>): Promise<void> {
  try {
    await iterator.return?.();
  } catch (_error) {
    // The call has its status already.
  }
}
