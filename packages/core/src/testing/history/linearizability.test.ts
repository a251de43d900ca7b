import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EVICTION_REASON } from "../../sessions/session-store.js";
import { type History, type HistoryEntry, saysNothing } from "./history.js";
import { checkLinearizability } from "./linearizability.js";
import { explainViolation, minimalHistory } from "./minimal-history.js";
import { historyOfSession } from "./one-session.js";
import { type Births, ModelState, type Operation, transitions } from "./session-model.js";

const IDS = ["s1", "s2", "s3"];
const LIMIT = { maxSessions: 2, policy: "evict_oldest" } as const;

/** A call and its answer, from one moment to another. */
type Row = readonly [
  operation: Operation,
  fromMs: number,
  toMs: number,
  result: string | undefined,
];

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

function verdictOf(rows: readonly Row[]): string {
  return checkLinearizability(historyOf(rows)).kind;
}

function create(id: string, extra: Partial<Operation & { readonly kind: "create" }> = {}) {
  return {
    kind: "create" as const,
    id,
    tokenHash: `${id}-t1`,
    record: `${id}-r1`,
    ...LIMIT,
    ...extra,
  };
}
const get = (id: string) => ({ kind: "read", id, by: "get", showRevoked: false }) as const;
const seen = (id: string) => ({ kind: "read", id, by: "list", showRevoked: true }) as const;
const revoke = (id: string) => ({ kind: "revoke", id, reason: "logout" }) as const;
const rotate = (id: string, tokenHash: string, newTokenHash: string) =>
  ({ kind: "rotateToken", id, tokenHash, newTokenHash }) as const;
const replace = (id: string, version: number, record: string) =>
  ({ kind: "replaceRecord", id, version, record }) as const;
const CREATED: Row = [create("s1"), 0, 10, "created s1 version 1 s1-r1 s1-t1"];
const FRESH = "s1 version 1 s1-r1 s1-t1";

const id = fc.constantFrom(...IDS);
const tokenHash = (of: string) => fc.constantFrom(`${of}-t1`, `${of}-t2`, `${of}-t3`);
const record = (of: string) => fc.constantFrom(`${of}-r1`, `${of}-r2`);
/** Few labels, so that calls get in each other's way. */
const operations = fc.oneof<fc.MaybeWeightedArbitrary<Operation>[]>(
  { weight: 4, arbitrary: id.map((one) => create(one)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(id, fc.constantFrom("q1", "q2"))
      .map(([one, request]) => create(one, { request })),
  },
  id.map(get),
  id.map(seen),
  fc.constant<Operation>({ kind: "count" }),
  id.chain((one) => tokenHash(one).map((hash) => ({ kind: "touch", id: one, tokenHash: hash }))),
  id.chain((one) =>
    fc
      .tuple(fc.integer({ min: 1, max: 3 }), record(one))
      .map(([version, r]) => replace(one, version, r)),
  ),
  id.chain((one) =>
    fc.tuple(tokenHash(one), tokenHash(one)).map(([from, to]) => rotate(one, from, to)),
  ),
  id.chain((one) =>
    fc
      .tuple(record(one), record(one))
      .map(([from, to]) => ({ kind: "reseal", id: one, record: from, resealed: to })),
  ),
  id.map(revoke),
  fc.option(id, { nil: undefined }).map(
    (exceptId): Operation => ({
      kind: "revokeUser",
      reason: "all",
      ...(exceptId && { exceptId }),
    }),
  ),
);

/** What became of a call that the generator puts at a moment of its own. */
interface Fate {
  readonly operation: Operation;
  readonly earlierMs: number;
  readonly laterMs: number;
  readonly outcome: "answered" | "unknown and done" | "unknown and not done";
}

const fates = fc.record({
  operation: operations,
  earlierMs: fc.nat({ max: 60 }),
  laterMs: fc.nat({ max: 60 }),
  outcome: fc.oneof(
    { weight: 6, arbitrary: fc.constant("answered" as const) },
    fc.constantFrom("unknown and done" as const, "unknown and not done" as const),
  ),
});

/** A history that the model itself made: each call takes effect at a moment 10 ms after the last. */
function correctHistory(calls: readonly Fate[]): History {
  const births = new Map(IDS.map((one, i) => [one, { id: one, createTimeMs: i }]));
  let state = ModelState.EMPTY;
  const rows = calls.map(({ operation, earlierMs, laterMs, outcome }, i): Row => {
    const atMs = 10 * i;
    if (outcome === "unknown and not done") return [operation, atMs - earlierMs, 0, undefined];
    const [transition] = transitions(state, operation, births);
    if (transition === undefined) throw new Error("the model has no answer");
    state = transition.state;
    const result = outcome === "answered" ? transition.result : undefined;
    return [operation, atMs - earlierMs, atMs + laterMs, result];
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

describe("a history is accepted", () => {
  test("when it is what the model does, whatever overlaps and whatever is unknown", () => {
    fc.assert(
      fc.property(fc.array(fates, { maxLength: 40 }), (calls) => {
        const history = correctHistory(calls);
        expect(checkLinearizability(history).kind).toBe("linearizable");
      }),
      { numRuns: 300 },
    );
  });

  test("with an order that is one: each call within its interval, each answer the model's", () => {
    fc.assert(
      fc.property(fc.array(fates, { maxLength: 30 }), (calls) => {
        const history = correctHistory(calls);
        const verdict = checkLinearizability(history);
        if (verdict.kind !== "linearizable") throw new Error(verdict.kind);
        const { order } = verdict;
        const answered = history.entries.filter(({ result }) => result !== undefined);
        expect(order).toEqual(expect.arrayContaining(answered));
        let state = ModelState.EMPTY;
        for (const [i, entry] of order.entries()) {
          for (const later of order.slice(i + 1)) {
            expect(later.respondedMs).toBeGreaterThanOrEqual(entry.invokedMs);
          }
          const [step] = transitions(state, entry.operation, history.births).filter(
            ({ result }) => entry.result === undefined || result === entry.result,
          );
          if (step === undefined) throw new Error("the model answers otherwise");
          state = step.state;
        }
      }),
      { numRuns: 100 },
    );
  });

  test("when a call of unknown outcome took effect long after it was made", () => {
    expect(
      verdictOf([
        CREATED,
        [revoke("s1"), 11, 0, undefined],
        [get("s1"), 1_000, 1_001, FRESH],
        [get("s1"), 2_000, 2_001, "nothing"],
      ]),
    ).toBe("linearizable");
  });

  test("whichever of two calls of unknown outcome came first", () => {
    const one = { maxSessions: 1 };
    for (const [evicted, kept] of [
      ["s1", "s2"],
      ["s2", "s1"],
    ] as const) {
      expect(
        verdictOf([
          [create("s1", one), 0, 0, undefined],
          [create("s2", one), 0, 0, undefined],
          [get(kept), 1, 2, `${kept} version 1 ${kept}-r1 ${kept}-t1`],
          [seen(evicted), 1, 2, `${evicted} version 2 ${evicted}-r1 (${EVICTION_REASON})`],
        ]),
      ).toBe("linearizable");
    }
  });

  test("only with the lower id evicted, of two sessions that are equally old", () => {
    const evicting = (evicted: string): Row[] => [
      [create("s1"), 0, 1, "created s1 version 1 s1-r1 s1-t1"],
      [create("s2"), 0, 1, "created s2 version 1 s2-r1 s2-t1"],
      [create("s3"), 2, 3, `created s3 version 1 s3-r1 s3-t1, evicted ${evicted}`],
    ];
    const births = new Map(
      [
        ["s1", "bb"],
        ["s2", "aa"],
      ].map(([label = "", full = ""]) => [label, { id: full, createTimeMs: 1 }]),
    );
    expect(checkLinearizability(historyOf(evicting("s1"), births)).kind).toBe("violation");
    expect(checkLinearizability(historyOf(evicting("s2"), births)).kind).toBe("linearizable");
  });

  test("whichever of two sessions was evicted, when nobody saw which is older", () => {
    const evicting = (evicted: string): Row[] => [
      [create("s1"), 0, 1, undefined],
      [create("s2"), 0, 1, undefined],
      [create("s3"), 2, 3, `created s3 version 1 s3-r1 s3-t1, evicted ${evicted}`],
    ];
    for (const evicted of ["s1", "s2"]) {
      expect(checkLinearizability(historyOf(evicting(evicted), new Map())).kind).toBe(
        "linearizable",
      );
    }
    expect(verdictOf(evicting("s1"))).toBe("linearizable");
    expect(verdictOf(evicting("s2"))).toBe("violation");
  });
});

test("the verdict is that of trying every order", () => {
  let violations = 0;
  const answeredAnyhow = fc.record({
    fate: fates,
    // Often another call's answer than its own.
    swap: fc.option(fc.nat({ max: 5 }), { freq: 3, nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(answeredAnyhow, { minLength: 2, maxLength: 6 }), (calls) => {
      const correct = correctHistory(calls.map(({ fate }) => fate));
      const entries = correct.entries.map((entry, i) => {
        const other = correct.entries[calls[i]?.swap ?? i];
        if (entry.result === undefined || other?.result === undefined) return entry;
        return { ...entry, result: other.result };
      });
      const expected = hasOrder(entries, ModelState.EMPTY, correct.births);
      if (!expected) violations++;
      const { kind } = checkLinearizability({ ...correct, entries });
      expect(kind).toBe(expected ? "linearizable" : "violation");
    }),
    { numRuns: 1_000 },
  );
  expect(violations).toBeGreaterThan(100);
});

/** Each is wrong in one way, and right but for that. */
const WRONG: Readonly<Record<string, readonly Row[]>> = {
  "a read that is stale after an acknowledged revocation": [
    CREATED,
    [revoke("s1"), 11, 20, "true"],
    [get("s1"), 21, 22, FRESH],
  ],
  "two winners of one rotation": [
    CREATED,
    [rotate("s1", "s1-t1", "s1-t2"), 11, 20, "s1 version 2 s1-r1 s1-t2"],
    [rotate("s1", "s1-t1", "s1-t3"), 11, 20, "s1 version 2 s1-r1 s1-t3"],
  ],
  "two winners of one rotation, told of different versions": [
    CREATED,
    [rotate("s1", "s1-t1", "s1-t2"), 11, 20, "s1 version 2 s1-r1 s1-t2"],
    [rotate("s1", "s1-t1", "s1-t3"), 11, 20, "s1 version 3 s1-r1 s1-t3"],
  ],
  "an update that is lost": [
    CREATED,
    [replace("s1", 1, "s1-r2"), 11, 20, "s1 version 2 s1-r2 s1-t1"],
    [replace("s1", 1, "s1-r3"), 12, 20, "s1 version 2 s1-r3 s1-t1"],
  ],
  "one creation that was applied twice": [
    [create("s1", { request: "q1" }), 0, 0, undefined],
    [create("s2", { request: "q1" }), 11, 20, "created s2 version 1 s2-r1 s2-t1"],
    [{ kind: "count" }, 21, 22, "2"],
  ],
  "a repetition that creates anew": [
    [create("s1", { request: "q1" }), 0, 10, "created s1 version 1 s1-r1 s1-t1"],
    [create("s2", { request: "q1" }), 11, 20, "created s2 version 1 s2-r1 s2-t1"],
  ],
  "a revoked session that is back": [
    CREATED,
    [revoke("s1"), 11, 20, "true"],
    [get("s1"), 21, 22, "nothing"],
    [get("s1"), 23, 24, FRESH],
  ],
  "a revoked session that is back after a revocation of unknown outcome": [
    CREATED,
    [revoke("s1"), 11, 0, undefined],
    [get("s1"), 21, 22, "nothing"],
    [get("s1"), 23, 24, FRESH],
  ],
  "an answer out of order in real time": [
    CREATED,
    [replace("s1", 1, "s1-r2"), 11, 12, "s1 version 2 s1-r2 s1-t1"],
    [get("s1"), 13, 14, FRESH],
  ],
  "a session read before it was created": [
    [get("s1"), 0, 1, FRESH],
    [create("s1"), 2, 3, "created s1 version 1 s1-r1 s1-t1"],
  ],
  "a revocation that two calls made": [
    CREATED,
    [revoke("s1"), 11, 20, "true"],
    [revoke("s1"), 11, 20, "true"],
  ],
  "a write of unknown outcome that came and went": [
    CREATED,
    [replace("s1", 1, "s1-r2"), 11, 0, undefined],
    [get("s1"), 21, 22, "s1 version 2 s1-r2 s1-t1"],
    [get("s1"), 23, 24, FRESH],
  ],
  "more sessions than the limit": [
    CREATED,
    [create("s2"), 11, 12, "created s2 version 1 s2-r1 s2-t1"],
    [create("s3"), 13, 14, "created s3 version 1 s3-r1 s3-t1"],
  ],
  "an eviction of the younger session": [
    CREATED,
    [create("s2"), 11, 12, "created s2 version 1 s2-r1 s2-t1"],
    [create("s3"), 13, 14, "created s3 version 1 s3-r1 s3-t1, evicted s2"],
  ],
  "a failure that the contract does not name": [[get("s1"), 0, 1, "failed: ERR unknown command"]],
};

describe("a history is refused for", () => {
  for (const [fault, rows] of Object.entries(WRONG)) {
    test(fault, () => {
      expect(verdictOf(rows)).toBe("violation");
    });

    test(`${fault}, amid other calls`, () => {
      const others = fc.array(fates, { maxLength: 15 });
      fc.assert(
        fc.property(others, (calls) => {
          // The other calls are on sessions of their own, under a limit that both fit.
          const rename = (text: string) => text.replaceAll(/([srtq])(\d)/g, "x$1$2");
          const amid = correctHistory(calls.filter(({ operation }) => isOfOneSession(operation)));
          const around = amid.entries.map(
            (entry): HistoryEntry => JSON.parse(rename(JSON.stringify(entry)), revived),
          );
          const faulty = historyOf(rows);
          const history = { ...faulty, entries: [...faulty.entries, ...around] };
          expect(checkLinearizability(history).kind).toBe("violation");
        }),
        { numRuns: 10 },
      );
    });
  }
});

/** Whether a call neither counts nor depends on how many sessions there are. */
function isOfOneSession({ kind }: Operation): boolean {
  return kind !== "create" && kind !== "count" && kind !== "revokeUser";
}

/** JSON has no infinity; `undefined` is left out of it anyway. */
function revived(key: string, value: unknown): unknown {
  return key === "respondedMs" && value === null ? Number.POSITIVE_INFINITY : value;
}

describe("a violation is shown", () => {
  const rows: Row[] = [
    CREATED,
    [create("s2"), 2, 12, "created s2 version 1 s2-r1 s2-t1"],
    [get("s2"), 13, 14, "s2 version 1 s2-r1 s2-t1"],
    [replace("s2", 1, "s2-r2"), 14, 0, undefined],
    [rotate("s1", "s1-t9", "s1-t8"), 14, 0, undefined],
    [get("s1"), 15, 16, FRESH],
    [revoke("s1"), 17, 20, "true"],
    [get("s2"), 18, 30, "s2 version 2 s2-r2 s2-t1"],
    [get("s1"), 21, 22, FRESH],
    [get("s2"), 40, 41, "s2 version 2 s2-r2 s2-t1"],
  ];

  test("by the calls that make it, and no others", () => {
    const { entries } = minimalHistory(historyOf(rows));
    const calls = entries.map(
      ({ operation }) => `${operation.kind} ${"id" in operation && operation.id}`,
    );
    expect(calls).toEqual(["create s1", "revoke s1", "read s1"]);
  });

  test("by calls on several sessions, where one does not show it", () => {
    const { entries } = minimalHistory(
      historyOf([
        CREATED,
        [get("s1"), 11, 12, FRESH],
        [create("s2"), 11, 12, "created s2 version 1 s2-r1 s2-t1"],
        [create("s2"), 13, 14, "SESSION_ALREADY_EXISTS"],
        [{ kind: "count" }, 13, 14, "2"],
        [{ kind: "count" }, 15, 16, "1"],
      ]),
    );
    expect(entries.map(({ operation: { kind } }) => kind)).toEqual(["create", "create", "count"]);
  });

  test("as one of a single session only where it is one of all", () => {
    fc.assert(
      fc.property(fc.array(fates, { maxLength: 40 }), fc.constantFrom(...IDS), (calls, one) => {
        const history = historyOfSession(correctHistory(calls), one);
        expect(checkLinearizability(history).kind).toBe("linearizable");
      }),
      { numRuns: 500 },
    );
  });

  test("as a table, with the answer that does not fit", () => {
    const text = explainViolation(historyOf(rows));
    expect(text).toMatch(/revoke\(s1, logout\) → true/);
    expect(text).toMatch(/none of these fits:\n.*get\(s1\) → s1 version 1 s1-r1 s1-t1$/);
    expect(text).not.toContain("s1-t9");
  });

  test("by a part of it that is a violation only because the whole is one", () => {
    fc.assert(
      fc.property(fc.array(fates, { maxLength: 15 }), fc.nat(), (calls, where) => {
        const correct = correctHistory(calls);
        const answered = correct.entries.filter((entry) => !saysNothing(entry) && entry.result);
        const wrong = answered[where % answered.length];
        fc.pre(wrong !== undefined);
        const entries = correct.entries.map((entry) =>
          entry === wrong ? { ...entry, result: "7" } : entry,
        );
        const minimal = minimalHistory({ ...correct, entries });
        // Without the one wrong answer there would be nothing to show.
        const inOrder = minimal.entries.filter(({ result }) => result === "7");
        expect(inOrder).toHaveLength(1);
      }),
      { numRuns: 100 },
    );
  });
});

test("a search that takes too long is given up, and says so", () => {
  const rows = Array.from(
    { length: 12 },
    (_, i): Row => [create(`s${i}`, { maxSessions: 99 }), 0, 0, undefined],
  );
  const verdict = checkLinearizability(historyOf([...rows, [{ kind: "count" }, 1, 2, "13"]]), 100);
  expect(verdict.kind).toBe("undecided");
});
