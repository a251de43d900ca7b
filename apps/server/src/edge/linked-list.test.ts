import fc from "fast-check";
import { expect, test } from "vitest";
import { Link, LinkedList } from "./linked-list.js";

test("a list has what was added and not removed since, the oldest first", () => {
  const step = fc.record({ adds: fc.boolean(), which: fc.nat(7) });
  const check = (steps: readonly { readonly adds: boolean; readonly which: number }[]) => {
    const links = Array.from({ length: 8 }, () => new Link());
    const list = new LinkedList<Link>();
    let expected: Link[] = [];
    for (const { adds, which } of steps) {
      const link = links[which] as Link;
      // What is in a list is not added again. But it may be removed twice.
      if (adds && !expected.includes(link)) {
        list.add(link);
        expected.push(link);
      } else if (!adds) {
        link.remove();
        expected = expected.filter((other) => other !== link);
      }
      expect(list.toArray()).toEqual(expected);
      expect(list.first).toBe(expected[0]);
      expect(list.isEmpty).toBe(expected.length === 0);
    }
  };
  fc.assert(fc.property(fc.array(step), check));
});
