/** Where the fields of a response go. Each framework has one of its own. */
export interface ResponseHead {
  /** Whether the fields are on their way to the client and can no longer change. */
  readonly isSent: boolean;
  get(name: string): string | undefined;
  set(name: string, value: string): void;
  /** Adds a value to a field that is a list. */
  append(name: string, value: string): void;
  cookies(): readonly string[];
  setCookies(lines: readonly string[]): void;
}

/** Sets a cookie, and replaces an earlier one of that name. Other cookies stay. */
export function putCookie(head: ResponseHead, name: string, line: string): void {
  const others = head.cookies().filter((cookie) => !cookie.startsWith(`${name}=`));
  head.setCookies([...others, line]);
}

/** The fields of a response of the Fetch API. */
export function headOf(headers: Headers): ResponseHead {
  return {
    isSent: false,
    get: (name) => headers.get(name) ?? undefined,
    set: (name, value) => headers.set(name, value),
    append: (name, value) => headers.append(name, value),
    cookies: () => headers.getSetCookie(),
    setCookies(lines) {
      headers.delete("Set-Cookie");
      for (const line of lines) headers.append("Set-Cookie", line);
    },
  };
}
