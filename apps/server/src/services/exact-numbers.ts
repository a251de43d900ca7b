/** A key of an object, or an index of a list. */
export type JsonKey = string | number;

/**
 * Matches JSON that may have a number above 2^53. It also matches some texts, which then cost the
 * time of a second parse.
 */
const SUSPECT = /[:[,]\s*-?(?:\d{16}|\d[\d.]*[eE])/;
const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i;

/** A JSON number that a double cannot hold. */
export class InexactNumber extends Error {
  override readonly name = "InexactNumber";
  /** Where the number stands, from the root of the JSON. */
  readonly path: readonly JsonKey[];

  constructor(path: readonly JsonKey[]) {
    super("cannot decode a number from JSON");
    this.path = path;
  }
}

/**
 * Throws InexactNumber if a number would come back as another one: if it is 2^53 or more, and the
 * shortest decimal of its double has other digits, or if it is beyond all doubles. Fractions
 * below are rounded to the nearest double, as everywhere in JSON (RFC 8259, 6). Accepts what is not
 * JSON, which protobuf refuses.
 */
export function checkNumbers(json: string): void {
  const path = SUSPECT.test(json) ? pathOfInexact(json) : undefined;
  if (path !== undefined) throw new InexactNumber(path);
}

function pathOfInexact(json: string): readonly JsonKey[] | undefined {
  const path: JsonKey[] = [];
  let holder: unknown;
  function visit(this: object, key: string, value: unknown, context?: { source?: string }) {
    const isWanted =
      path.length === 0
        ? typeof value === "number" && !isKept(context?.source ?? "", value)
        : value === holder;
    if (isWanted) {
      // JSON.parse visits what is in an object first, and then the object itself.
      path.push(Array.isArray(this) ? Number(key) : key);
      holder = this;
    }
    return value;
  }
  try {
    JSON.parse(json, visit);
  } catch {
    return undefined;
  }
  // The root has the key "".
  return path.length === 0 ? undefined : path.reverse().slice(1);
}

function isKept(source: string, value: number): boolean {
  if (Math.abs(value) <= Number.MAX_SAFE_INTEGER) return true;
  return Number.isFinite(value) && digitsOf(source) === digitsOf(String(value));
}

/** The number in one form: its digits without zeros at the ends, and an exponent. */
function digitsOf(number: string): string {
  const [, whole = "", fraction = "", exponent = "0"] = NUMBER.exec(number) ?? [];
  const digits = (whole + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  return `${significant}e${Number(exponent) - fraction.length + digits.length - significant.length}`;
}
