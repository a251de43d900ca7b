/** The one page. Names are those of our two users, so nothing needs to be escaped. */
export function page(
  kept: string,
  user: { name?: string | undefined; cups?: number | undefined } | undefined,
): string {
  const content =
    user === undefined
      ? `<p>Try <b>ann</b> with <b>green tea</b>.</p>
<form method="post" action="/login">
  <input name="name" aria-label="Name">
  <input name="password" type="password" aria-label="Password">
  <button>Log in</button>
</form>`
      : `<p>Hello ${user.name}. Cups of tea: ${user.cups ?? 0}.</p>
<form method="post" action="/cups"><button>One more</button></form>
<form method="post" action="/logout"><button>Log out</button></form>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tea</title>
<h1>Tea</h1>
${content}
<p>Sessions are kept by ${kept}.</p>
</html>
`;
}
