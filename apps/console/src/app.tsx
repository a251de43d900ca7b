import { useEffect, useMemo } from "preact/hooks";
import { type Access, access, logIn, logOut, type Operator } from "./access/access.js";
import type { Login } from "./access/login.js";
import { Notice, Outcome, outcome } from "./parts/notice.js";
import { hrefOf, route } from "./parts/route.js";
import { SCREENS } from "./screens/screens.js";
import { useStore } from "./store.js";
import { closeWorkspace, openWorkspace } from "./workspace.js";

/** The whole page. */
export function App() {
  const current = useStore(access);
  switch (current.kind) {
    case "starting":
      return <main class="door">Loading…</main>;
    case "out":
      return <Door login={current.login} problem={current.problem} />;
    case "in":
    case "expired":
      return <House key={current.operator.token} access={current} />;
  }
}

function Door(props: { readonly login: Login | undefined; readonly problem: string | undefined }) {
  return (
    <main class="door">
      <h1>sessiond console</h1>
      {props.problem !== undefined && (
        <Notice kind="problem">
          <p>Could not log in: {props.problem}</p>
        </Notice>
      )}
      <LoginButton login={props.login} />
    </main>
  );
}

function LoginButton({ login }: { readonly login: Login | undefined }) {
  if (login === undefined) {
    return (
      <p>
        Open the link that the development server printed at its start. It logs you in, and holds
        for 24 hours.
      </p>
    );
  }
  return (
    <button type="button" class="primary" onClick={() => void logIn(login)}>
      Log in at {new URL(login.issuer).host}
    </button>
  );
}

function House(props: { readonly access: Extract<Access, { readonly operator: Operator }> }) {
  const { kind, operator } = props.access;
  const workspace = useMemo(() => openWorkspace(operator), [operator]);
  useEffect(() => () => closeWorkspace(workspace), [workspace]);
  useEffect(() => {
    if (kind === "expired") closeWorkspace(workspace);
  }, [kind, workspace]);
  const { screen: name, subject } = useStore(route);
  useEffect(() => {
    // It was about the screen before.
    outcome.value = "";
  }, [name, subject]);
  const permitted = SCREENS.filter(({ needs }) => operator.permissions.has(needs));
  const screen = permitted.find((candidate) => candidate.name === name) ?? permitted[0];
  return (
    <div class="house">
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <header class="top">
        <strong class="brand">sessiond</strong>
        <nav aria-label="Screens">
          {permitted.map(({ name, title }) => (
            <a
              key={name}
              href={hrefOf(name)}
              aria-current={name === screen?.name ? "page" : undefined}
            >
              {title}
            </a>
          ))}
        </nav>
        <span class="operator">
          <bdi title={operator.namespace === "" ? undefined : `namespace ${operator.namespace}`}>
            {operator.subject}
          </bdi>
          <button type="button" class="quiet" onClick={logOut}>
            Log out
          </button>
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        {props.access.kind === "expired" && (
          <Notice kind="problem">
            <p>Your login has expired. What you see is no longer up to date.</p>
            <LoginButton login={props.access.login} />
          </Notice>
        )}
        {screen === undefined ? (
          <NoPermission />
        ) : (
          <screen.Component key={`${screen.name} ${subject}`} {...{ workspace, subject }} />
        )}
      </main>
      <Outcome />
    </div>
  );
}

function NoPermission() {
  return (
    <Notice kind="empty">
      <p>Your access token permits nothing that the console shows.</p>
      <p>
        Ask whoever grants permissions at your issuer for <code>sessions:read</code>, and to revoke
        for <code>sessions:delete</code>. Then log in again.
      </p>
    </Notice>
  );
}
