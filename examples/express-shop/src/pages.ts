import type { Session } from "@sessiond/client";
import type { Device, SessionData } from "@sessiond/web";
import { type Html, html } from "./html.ts";
import { TEAS, type Tea } from "./teas.ts";

type ShopSession = Session<SessionData>;

export function shopPage(session: ShopSession | undefined): string {
  return page("Teas", session, [
    html`<section class="hero">
      <h1>Tea, and time to drink it.</h1>
      <p>Six teas, packed by hand on the day you order.</p>
    </section>`,
    html`<ul class="teas">${TEAS.map(teaCard)}</ul>`,
  ]);
}

function teaCard(tea: Tea): Html {
  return html`<li class="card tea">
    ${tin(tea)}
    <div>
      <h2>${tea.name}</h2>
      <p class="muted">${tea.origin}</p>
      <p>${tea.taste}</p>
    </div>
    <form method="post" action="/basket">
      <span class="price">€ ${tea.price}</span>
      <button name="tea" value="${tea.id}">Add<span class="hidden"> ${tea.name}</span></button>
    </form>
  </li>`;
}

function tin({ colors: [light, dark] }: Tea): Html {
  return html`<svg class="tin" viewBox="0 0 64 64" aria-hidden="true">
    <rect x="12" y="18" width="40" height="40" rx="5" fill="${dark}"/>
    <rect x="10" y="8" width="44" height="12" rx="4" fill="${light}"/>
    <circle cx="32" cy="38" r="11" fill="${light}"/>
    <path d="M25 43c1-9 7-13 14-12 0 8-5 13-14 12z" fill="${dark}"/>
  </svg>`;
}

/** What the login form had when it was sent before. */
interface LoginForm {
  readonly name?: string;
  readonly returnTo: string;
  readonly isWrong?: boolean;
}

export function loginPage(session: ShopSession | undefined, form: LoginForm): string {
  const { name, returnTo, isWrong = false } = form;
  return page("Log in", session, [
    html`<form class="card narrow" method="post" action="/login">
      <h1>Log in</h1>
      ${isWrong && html`<p class="alert" role="alert">No user has this name and password.</p>`}
      <label>Name <input name="name" value="${name}" autocomplete="username" required autofocus></label>
      <label>Password
        <input name="password" type="password" autocomplete="current-password" required>
      </label>
      <input type="hidden" name="return_to" value="${returnTo}">
      <button class="primary">Log in</button>
      <p class="muted">Try <b>ann</b> with <b>green tea</b>, or the admin <b>ada</b> with
        <b>black tea</b>.</p>
    </form>`,
  ]);
}

export function basketPage(session: ShopSession): string {
  const { basket = [] } = session.data;
  const teas = basket.flatMap((id) => TEAS.find((tea) => tea.id === id) ?? []);
  const rows = teas.map(
    (tea) =>
      html`<li class="row">${tin(tea)}<span class="grow">${tea.name}</span><span class="price">€ ${tea.price}</span></li>`,
  );
  return page("Basket", session, [
    html`<h1>Your basket</h1>`,
    teas.length === 0
      ? html`<p class="muted">Nothing yet. <a href="/">Choose a tea.</a></p>`
      : html`<ul class="card rows">${rows}</ul>`,
    html`<p class="muted">It is part of your session, so it goes when you log out.</p>`,
  ]);
}

export function devicesPage(session: ShopSession, devices: readonly Device[]): string {
  return page("My devices", session, [
    html`<h1>My devices</h1>
      <p class="muted">Everywhere you are logged in. Sign out what you do not know.</p>`,
    html`<ul class="card rows">${devices.map(deviceRow)}</ul>`,
    devices.length > 1 &&
      html`<form method="post" action="/devices/sign-out-elsewhere">
        <button>Sign out everywhere else</button>
      </form>`,
  ]);
}

function deviceRow({ id, device, ip, isCurrent, lastAccessTime }: Device): Html {
  return html`<li class="row">
    <div class="grow">
      <b>${device || "Unknown device"}</b> ${isCurrent && html`<span class="badge">This device</span>`}
      <div class="muted">${ip} · last seen ${time(lastAccessTime)}</div>
    </div>
    <form method="post" action="/devices/${id}/sign-out">
      <button>Sign out<span class="hidden"> ${device}</span></button>
    </form>
  </li>`;
}

export function adminPage(session: ShopSession, sessions: readonly ShopSession[]): string {
  const rows = sessions.map(
    ({ displayName, userId, client, createTime }) => html`<li class="row">
      <div class="grow"><b>${displayName || userId}</b>
        <div class="muted">${client.device || "Unknown device"} · ${client.ip}</div>
      </div>
      <span class="muted">since ${time(createTime)}</span>
    </li>`,
  );
  return page("Who is in", session, [
    html`<h1>Who is logged in</h1>`,
    html`<ul class="card rows">${rows}</ul>`,
  ]);
}

function time(date: Date): Html {
  const text = date.toISOString();
  return html`<time datetime="${text}">${text.slice(0, 10)} ${text.slice(11, 16)} UTC</time>`;
}

function page(
  title: string,
  session: ShopSession | undefined,
  content: readonly (Html | false)[],
): string {
  const parts = content.filter((part) => part !== false);
  return html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${title} · Leaf &amp; Kettle</title>
  <link rel="stylesheet" href="/shop.css">
  <link rel="icon" href="data:,">
</head>
<body>
  <header>
    <a class="brand" href="/">Leaf <i>&amp;</i> Kettle</a>
    <nav>${session === undefined ? html`<a href="/login">Log in</a>` : userLinks(session)}</nav>
  </header>
  <main>${parts}</main>
</body>
</html>
`.text;
}

function userLinks({ displayName, userId, roles, data }: ShopSession): Html {
  const { basket = [] } = data;
  return html`
    ${roles.includes("admin") && html`<a href="/admin">Admin</a>`}
    <a href="/basket">Basket ${basket.length > 0 && html`<span class="badge">${basket.length}</span>`}</a>
    <a href="/devices">My devices</a>
    <form method="post" action="/logout">
      <button class="link">Log out<span class="hidden"> ${displayName || userId}</span></button>
    </form>`;
}
