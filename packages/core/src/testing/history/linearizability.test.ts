import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { explainViolation } from "./explain-violation.js";
import type { History, HistoryEntry } from "./history.js";
import { checkLinearizability } from "./linearizability.js";
import { type Births, ModelState, type Operation, transitions } from "./session-model.js";

/** A call and its answer, from one moment to another; undefined where no answer came. */
type Row = readonly [operation: Operation, fromMs: number, toMs: number, result?: string];

function historyOf(rows: readonly Row[], births: Births = birthsOf(rows)): History {
  const entries = rows.map(([operation, invokedMs, toMs, result], i) => ({
    client: `client ${i}`,
    operation,
    invokedMs,
    respondedMs: result === undefined ? Number.POSITIVE_INFINITY : toMs,
    result,
  }));
  return { userId: "ann", entries, births };
}

/** The sessions are as old as their labels say. */
function birthsOf(rows: readonly Row[]): Births {
  const ids = rows.flatMap(([operation]) => ("id" in operation ? [operation.id] : []));
  return new Map(ids.map((id) => [id, { id, createTimeMs: Number(id.slice(1)) }]));
}

function verdictOf(rows: readonly Row[], births?: Births): string {
  return checkLinearizability(historyOf(rows, births)).kind;
}

type Create = Operation & { readonly kind: "create" };
const create = (id: string, extra: Partial<Create> = {}): Create => ({
  ...{ kind: "create", id, tokenHash: `${id}-t1`, record: `${id}-r1` },
  ...{ maxSessions: 2, policy: "evict_oldest", ...extra },
});
const get = (id: string) => ({ kind: "read", id, by: "get", showRevoked: false }) as const;
const seen = (id: string) => ({ kind: "read", id, by: "list", showRevoked: true }) as const;
const revoke = (id: string) => ({ kind: "revoke", id, reason: "logout" }) as const;
const rotate = (id: string, tokenHash: string, newTokenHash: string, hasGrace = false) =>
  ({ kind: "rotateToken", id, tokenHash, newTokenHash, hasGrace }) as const;
const replace = (id: string, version: number, record: string) =>
  ({ kind: "replaceRecord", id, version, record }) as const;
const fresh = (id: string) => `${id} version 1 ${id}-r1 ${id}-t1`;
const CREATED: Row = [create("s1"), 0, 10, `created ${fresh("s1")}`];
const CREATED_NEXT: Row = [create("s2"), 11, 12, `created ${fresh("s2")}`];

/** Few labels, so that calls get in each other's way. */
const IDS = ["s1", "s2", "s3"];
const operations: fc.Arbitrary<Operation> = fc
  .record({ id: fc.constantFrom(...IDS), a: fc.integer({ min: 1, max: 3 }), b: fc.nat({ max: 2 }) })
  .chain(({ id, a, b }) =>
    fc.oneof<fc.MaybeWeightedArbitrary<Operation>[]>(
      { weight: 4, arbitrary: fc.constant(create(id)) },
      fc.constant(create(id, { request: `q${a}` })),
      fc.constant(get(id)),
      fc.constant(seen(id)),
      fc.constant({ kind: "count" }),
      fc.constant({ kind: "touch", id, tokenHash: `${id}-t${a}` }),
      fc.constant({ kind: "verify", id, tokenHash: `${id}-t${a}` }),
      fc.constant(replace(id, a, `${id}-r${b}`)),
      fc.constant(rotate(id, `${id}-t${a}`, `${id}-t${b}`, a > b)),
      fc.constant({ ...rotate(id, `${id}-t1`, `${id}-t${b}`), request: `q${b}`, record: `r${a}` }),
      fc.constant({ kind: "reportReuse", id, tokenHash: `${id}-t${a}` }),
      fc.constant({ kind: "reseal", id, record: `${id}-r${a}`, resealed: `${id}-r${b}` }),
      fc.constant(revoke(id)),
      fc.constant<Operation>({ ...revoke(id), by: b === 0 ? "stranger" : "owner" }),
      fc.constant({ kind: "revokeUser", reason: "all", ...(b === 0 && { exceptId: id }) }),
    ),
  );

/** What became of a call, and the moments before and after its effect. */
const fates = fc.record({
  operation: operations,
  earlierMs: fc.nat({ max: 60 }),
  laterMs: fc.nat({ max: 60 }),
  outcome: fc.constantFrom("answered", "answered", "answered", "unknown", "never done"),
});
type Fate = typeof fates extends fc.Arbitrary<infer T> ? T : never;

/** A history that the model itself made: each call takes effect 10 ms after the one before. */
function correctHistory(calls: readonly Fate[]): History {
  const births = new Map(IDS.map((id, i) => [id, { id, createTimeMs: i }]));
  let state = ModelState.EMPTY;
  const rows = calls.map(({ operation, earlierMs, laterMs, outcome }, i): Row => {
    const atMs = 10 * i;
    if (outcome === "never done") return [operation, atMs - earlierMs, 0];
    const [step] = transitions(state, operation, births);
    if (step === undefined) throw new Error("the model has no answer");
    state = step.state;
    if (outcome === "unknown") return [operation, atMs - earlierMs, 0];
    return [operation, atMs - earlierMs, atMs + laterMs, step.result];
  });
  return historyOf(rows, births);
}

/** Tries every order of every choice of the unknown calls: slow, and plainly right. */
function hasOrder(left: readonly HistoryEntry[], state: ModelState, births: Births): boolean {
  if (left.every(({ result }) => result === undefined)) return true;
  return left.some((entry) => {
    const others = left.filter((other) => other !== entry);
    if (others.some((other) => other.respondedMs < entry.invokedMs)) return false;
    return transitions(state, entry.operation, births).some(
      (step) =>
        (entry.result === undefined || entry.result === step.result) &&
        hasOrder(others, step.state, births),
    );
  });
}

test("the verdict is the one that trying every order gives", () => {
  let violations = 0;
  // An answer that is swapped is often another call's.
  const calls = fc.array(fc.tuple(fates, fc.option(fc.nat({ max: 5 }), { freq: 3 })), {
    minLength: 2,
    maxLength: 6,
  });
  fc.assert(
    fc.property(calls, (drawn) => {
      const correct = correctHistory(drawn.map(([fate]) => fate));
      const entries = correct.entries.map((entry, i) => {
        const other = correct.entries[drawn[i]?.[1] ?? i];
        if (entry.result === undefined || other?.result === undefined) return entry;
        return { ...entry, result: other.result };
      });
      const isCorrect = hasOrder(entries, ModelState.EMPTY, correct.births);
      if (!isCorrect) violations++;
      const { kind } = checkLinearizability({ ...correct, entries });
      expect(kind).toBe(isCorrect ? "linearizable" : "violation");
    }),
    { numRuns: 1_000 },
  );
  expect(violations).toBeGreaterThan(100);
});

test("a history that the model made is explained", () => {
  fc.assert(
    fc.property(fc.array(fates, { maxLength: 40 }), (calls) => {
      expect(checkLinearizability(correctHistory(calls)).kind).toBe("linearizable");
    }),
    { numRuns: 300 },
  );
});

describe("a history is accepted", () => {
  test("when a call of unknown outcome took effect long after it was made", () => {
    const rows: Row[] = [
      CREATED,
      [revoke("s1"), 11, 0],
      [get("s1"), 1_000, 1_001, fresh("s1")],
      [get("s1"), 2_000, 2_001, "nothing"],
    ];
    expect(verdictOf(rows)).toBe("linearizable");
  });

  test("with the older of two sessions evicted, or either where nobody saw which is older", () => {
    const evicting = (evicted: string): Row[] => [
      [create("s1"), 0, 1],
      [create("s2"), 0, 1],
      [create("s3"), 2, 3, `created ${fresh("s3")}, evicted ${evicted}`],
    ];
    expect(verdictOf(evicting("s1"))).toBe("linearizable");
    expect(verdictOf(evicting("s2"))).toBe("violation");
    for (const evicted of ["s1", "s2"]) {
      expect(verdictOf(evicting(evicted), new Map())).toBe("linearizable");
    }
  });

  test("when a report of a reuse changes something only after the rotation that it meets", () => {
    const rows: Row[] = [
      CREATED,
      [{ kind: "reportReuse", id: "s1", tokenHash: "s1-t1" }, 11, 20, "reported"],
      [rotate("s1", "s1-t1", "s1-t2"), 12, 20, "s1 version 2 s1-r1 s1-t2"],
      [get("s1"), 21, 22, "s1 version 3 s1-r1 s1-t2"],
    ];
    expect(verdictOf(rows)).toBe("linearizable");
  });

  // Two orders lead to the same sessions, but only in one did the request evict s2.
  test("when a repetition tells whom its first call evicted, whichever order that needs", () => {
    const told = `repeated s3-r1: ${fresh("s3")}, evicted s2`;
    const rows: Row[] = [
      CREATED,
      CREATED_NEXT,
      [create("s3", { request: "q1" }), 13, 0],
      [create("s4"), 13, 0],
      [create("s5", { request: "q1" }), 20, 21, told],
    ];
    expect(verdictOf(rows)).toBe("linearizable");
  });
});

/** Each is wrong in one way, and right but for that. */
const WRONG: Readonly<Record<string, readonly Row[]>> = {
  "a revocation that is lost": [
    CREATED,
    [revoke("s1"), 11, 20, "true"],
    [get("s1"), 21, 22, fresh("s1")],
  ],
  "a session that is back after a revocation of unknown outcome": [
    CREATED,
    [revoke("s1"), 11, 0],
    [get("s1"), 21, 22, "nothing"],
    [get("s1"), 23, 24, fresh("s1")],
  ],
  "two winners of one rotation": [
    CREATED,
    [rotate("s1", "s1-t1", "s1-t2"), 11, 20, "s1 version 2 s1-r1 s1-t2"],
    [rotate("s1", "s1-t1", "s1-t3"), 11, 20, "s1 version 3 s1-r1 s1-t3"],
  ],
  "a stale read": [
    CREATED,
    [replace("s1", 1, "s1-r2"), 11, 12, "s1 version 2"],
    [get("s1"), 13, 14, fresh("s1")],
  ],
  "a revocation of all sessions but one that had ended": [
    CREATED,
    CREATED_NEXT,
    [revoke("s1"), 13, 14, "true"],
    [{ kind: "revokeUser", reason: "all", exceptId: "s1" }, 15, 16, "1"],
  ],
  "a revocation for another user": [CREATED, [{ ...revoke("s1"), by: "stranger" }, 11, 12, "true"]],
  "one request that created two sessions": [
    [create("s1", { request: "q1" }), 0, 0],
    [create("s2", { request: "q1" }), 11, 20, `created ${fresh("s2")}`],
    [{ kind: "count" }, 21, 22, "2"],
  ],
  "an error that the contract does not name": [[get("s1"), 0, 1, "failed: ERR unknown command"]],
};

test.each(Object.entries(WRONG))("a history is refused for %s", (_, rows) => {
  expect(verdictOf(rows)).toBe("violation");
});

test("a violation is shown by the calls up to it, and with the answer that does not fit", () => {
  const history = historyOf([
    CREATED,
    CREATED_NEXT,
    [revoke("s1"), 17, 20, "true"],
    [seen("s1"), 18, 30, "s1 version 2 s1-r1 (logout)"],
    [get("s1"), 21, 22, fresh("s1")],
    [get("s2"), 40, 41, fresh("s2")],
  ]);
  const text = explainViolation(history);
  expect(text).toMatch(/^no order explains these 5 of 6 calls/);
  expect(text).toMatch(/revoke\(s1, logout\) → true/);
  expect(text).toMatch(/none of these fits:\n.*get\(s1\) → s1 version 1 s1-r1 s1-t1$/);
});

test("a search that takes too long is given up, and says so", () => {
  const rows = Array.from(
    { length: 12 },
    (_, i): Row => [create(`s${i}`, { maxSessions: 99 }), 0, 0],
  );
  const history = historyOf([...rows, [{ kind: "count" }, 1, 2, "13"]]);
  expect(checkLinearizability(history, 100).kind).toBe("undecided");
});
