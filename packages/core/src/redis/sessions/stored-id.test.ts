import fc from "fast-check";
import { expect, test } from "vitest";
import { isChosenId, isGeneratedId } from "../../sessions/session-id.js";
import { fromStoredId, toStoredId } from "./stored-id.js";

const GENERATED = fc.stringMatching(/^1f[0-9a-f]{62}$/);
const CHOSEN = fc.stringMatching(/^[A-Za-z0-9._~:@-]{1,128}$/).filter(isChosenId);

test("every id comes back from Redis as it was, and no two ids are stored alike", () => {
  const pairs = fc.tuple(fc.oneof(GENERATED, CHOSEN), fc.oneof(GENERATED, CHOSEN));
  fc.assert(
    fc.property(pairs, ([one, other]) => {
      expect(fromStoredId(toStoredId(one))).toBe(one);
      expect(toStoredId(one).equals(toStoredId(other))).toBe(one === other);
      if (isGeneratedId(one)) expect(toStoredId(one)).toHaveLength(34);
    }),
  );
});

// Pages of sessions that were created in the same millisecond go by the order of ids.
test("the ids of a partition are stored in their order", () => {
  const chosen = CHOSEN.filter((id) => !id.startsWith("1f"));
  fc.assert(
    fc.property(fc.array(fc.oneof(GENERATED, chosen)), (ids) => {
      const stored = ids.map(toStoredId).sort(Buffer.compare);
      expect(stored.map(fromStoredId)).toEqual(ids.toSorted());
    }),
  );
});
