/** The length of a fragment that gives a secret away. In characters. */
const FRAGMENT_LENGTH = 16;

/** Secrets under names, and a search for them in whatever a server lets out. */
export class Canaries {
  /** What each fragment is of: the name and the form. */
  readonly #fragments = new Map<string, string>();

  /** Has `find` look for this text from now on, in every form, and for its fragments. */
  add(name: string, secret: string): void {
    for (const [form, text] of formsOf(secret)) {
      if (text.length < FRAGMENT_LENGTH) throw new Error(`${name} is too short to be searched for`);
      for (let at = 0; at + FRAGMENT_LENGTH <= text.length; at++) {
        this.#fragments.set(text.slice(at, at + FRAGMENT_LENGTH), `${name}, ${form}`);
      }
    }
  }

  /** The secrets in a text, each with the place where it stands. */
  find(text: string): readonly string[] {
    const found = new Map<string, string>();
    for (let at = 0; at + FRAGMENT_LENGTH <= text.length; at++) {
      const name = this.#fragments.get(text.slice(at, at + FRAGMENT_LENGTH));
      if (name !== undefined && !found.has(name)) {
        found.set(name, text.slice(Math.max(0, at - 200), at + 60));
      }
    }
    return [...found].map(([name, place]) => `${name}: …${place}…`);
  }
}

/** The forms in which a text may be written somewhere. */
function formsOf(secret: string): readonly (readonly [form: string, text: string])[] {
  const bytes = Buffer.from(secret);
  // In base64, a text looks different at each of three places of a longer text. The letters at both
  // ends share bits with what stands around it.
  const inBase64 = [0, 1, 2].flatMap((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    const inner = text.replace(/=+$/, "").slice(before === 0 ? 0 : 2, -1);
    return [inner, inner.replaceAll("+", "-").replaceAll("/", "_")];
  });
  return [
    ["as it is", secret],
    ["in JSON", JSON.stringify(secret).slice(1, -1)],
    ["in a URL", encodeURIComponent(secret)],
    ["in hex", bytes.toString("hex")],
    ...inBase64.map((text) => ["in base64", text] as const),
  ];
}
