import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import type { ListQuery } from "../sessions/session-store.js";
import { migrate } from "./migrations.js";
import { listStatement, STATEMENTS } from "./statements.js";

const db = new DatabaseSync(":memory:");
migrate(db);

/** What SQLite would do to answer a statement, step by step. */
function planOf(sql: string): string[] {
  const steps = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
  return steps.map((step) => String(step["detail"]));
}

/** Steps whose cost grows with how many sessions, events or requests there are. */
function slowSteps(plan: readonly string[]): string[] {
  return plan.filter((step) =>
    /TEMP B-TREE|^SCAN (sessions(?! USING INDEX)|session_events|requests)/.test(step),
  );
}

describe("no statement looks at sessions that do not concern it:", () => {
  for (const [name, sql] of Object.entries(STATEMENTS)) {
    if (name === "check") continue;
    test(name, () => {
      const plan = planOf(sql);
      const visits = plan.filter((step) => step.includes("sessions"));
      expect(visits.filter((step) => !step.startsWith("SEARCH sessions USING"))).toEqual([]);
      expect(slowSteps(plan)).toEqual([]);
    });
  }
});

/** Every combination of what a list may be asked for. */
const listQueries = Object.entries({
  order: ["asc", "desc"],
  showExpired: [false, true],
  showRevoked: [false, true],
  userId: [undefined, "ann"],
  after: [undefined, { createTimeMs: 5, id: "x" }],
  createTimeFromMs: [undefined, 3, 7],
  createTimeToMs: [undefined, 4, 9],
  limit: [10],
}).reduce<object[]>(
  (queries, [name, values]) =>
    queries.flatMap((query) =>
      values.map((value) => (value === undefined ? query : { ...query, [name]: value })),
    ),
  [{}],
) as ListQuery[];

test("no list sorts, and every page starts where the last one ended", () => {
  expect(listQueries).toHaveLength(288);
  for (const query of listQueries) {
    const { sql } = listStatement({ ...query, namespace: "shop" }, 7);
    const plan = planOf(sql);
    expect(slowSteps(plan), sql).toEqual([]);
    const visits = plan.filter((step) => step.includes("sessions"));
    expect(visits).toHaveLength(query.showExpired || query.showRevoked ? 2 : 1);
    for (const visit of visits) {
      expect(visit).toMatch(/ USING INDEX (live|ended)_by_(user|creation) \(namespace=\?/);
      if (query.userId !== undefined) expect(visit).toContain("user_id=?");
      if (sql.includes(":afterId")) expect(visit).toMatch(/\(create_time_ms,id\)[<>]\(\?,\?\)/);
      expect(visit.match(/create_time_ms(,id\))?>/g) ?? []).toHaveLength(lowerBounds(sql));
    }
  }
});

/** How many conditions bound the creation time from below. */
function lowerBounds(sql: string): number {
  const [branch = ""] = sql.split("UNION ALL");
  return branch.match(/create_time_ms(, id\))? >/g)?.length ?? 0;
}
