import { describe, expect, test, vi } from "vitest";
import { SessiondError } from "../error.js";
import {
  type Handlers,
  never,
  overloaded,
  protoSession,
  rejection,
  startClient,
  throwing,
} from "../testing/session-server.js";

const ACCESS_TOKEN = "header.access-token-payload.signature";
const SESSION_TOKEN = "sst_c2Vzc2lvbi10b2tlbg";

/** Refuses the first call. */
function overloadedOnce(): Handlers {
  let calls = 0;
  const countSessions = () => {
    if (++calls === 1) throw overloaded();
    return { count: 1 };
  };
  return { countSessions };
}

describe("a token function", () => {
  test("is called once per call, so that tokens can change", async () => {
    let issued = 0;
    const token = async () => `token-${++issued}`;
    const { server, client } = await startClient(overloadedOnce(), { token });
    await client.countSessions();
    await client.countSessions();
    const tokens = server.calls.map(({ authorization }) => authorization);
    expect(tokens).toEqual(["Bearer token-1", "Bearer token-1", "Bearer token-2"]);
  });

  test("that cannot reach its identity provider is asked again, as in any outage", async () => {
    let asked = 0;
    const token = async () => {
      if (++asked < 3) await fetch("http://127.0.0.1:9/token");
      return ACCESS_TOKEN;
    };
    const { server, client } = await startClient(
      { updateSession: () => ({ session: protoSession() }) },
      { token },
    );
    await client.updateSession("s", { displayName: "Ada" });
    expect([asked, server.calls.length]).toEqual([3, 1]);
  });

  test("that goes on failing fails the call with 503, and its error is the cause", async () => {
    // Even an error of another client of this package.
    const cause = new SessiondError("SESSION_NOT_FOUND", "no credentials");
    const token = vi.fn(throwing(() => cause));
    const { server, client } = await startClient({}, { token });
    const error = await rejection(client.verifySession(SESSION_TOKEN));
    expect(error).toMatchObject({ reason: "TOKEN_UNAVAILABLE", httpStatus: 503, cause });
    expect(token).toHaveBeenCalledTimes(3);
    expect(server.calls).toHaveLength(0);
  });

  test("that hangs does not outlast the timeout or the signal of the call", async () => {
    const { server, client } = await startClient({}, { token: never });
    const startMs = performance.now();
    const failed = await rejection(client.countSessions({}, { timeoutMs: 60 }));
    expect(failed.reason).toBe("TOKEN_UNAVAILABLE");
    expect(performance.now() - startMs).toBeLessThan(1000);
    const signal = AbortSignal.timeout(60);
    expect((await rejection(client.countSessions({}, { signal }))).reason).toBe("CANCELED");
    expect(server.calls).toHaveLength(0);
  });

  test.each(["", "line\nbreak", undefined])("that returns %j prevents the call", async (token) => {
    const { server, client } = await startClient({}, { token: () => token as string });
    const error = await rejection(client.countSessions());
    expect(error.reason).toBe("UNAUTHENTICATED");
    expect(error.message).toMatch(/^token \(what the function returned\): expected/);
    expect(server.calls).toHaveLength(0);
  });
});
