import { ConfigError } from "../config/config-error.js";
import type { Command } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";
import { writePaced } from "./terminal/paced-output.js";

/** What may follow `sessiond` and a command's name. */
interface Completions {
  readonly command: string;
  readonly summary: string;
  /** The words that may come next, such as `list`. */
  readonly actions: readonly string[];
  /** With their dashes. */
  readonly flags: readonly string[];
}

const SCRIPTS: Readonly<Record<string, (all: readonly Completions[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};
const SHELLS = Object.keys(SCRIPTS).join("|");

/** `sessiond completion`: prints a script that teaches a shell the commands and flags. */
export function completionCommand(commands: () => ReadonlyMap<string, Command>): Command {
  return {
    summary: "prints a script that completes commands and flags in a shell",
    help: () => HELP,
    run: async ({ args: [shell = "", ...rest], stdout }) => {
      const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
      if (script === undefined || rest.length > 0) {
        throw new ConfigError([
          `expected sessiond completion ${SHELLS}; see: sessiond help completion`,
        ]);
      }
      await writePaced(stdout, script([...commands()].map(completionsOf)));
      return EXIT_OK;
    },
  };
}

/**
 * Reads the actions and flags from the command's help. Each usage line names an action. Each line
 * about a flag begins with the flag.
 */
function completionsOf([command, { summary, help }]: readonly [string, Command]): Completions {
  const text = help();
  const usage = new RegExp(`^(?:Usage:| {6}) sessiond ${command} ([a-z][a-z|-]*)`, "gm");
  const actions = [...text.matchAll(usage)].flatMap(([, words = ""]) => words.split("|"));
  const flags = [...text.matchAll(/^ {2}(--[a-z][a-z-]*)/gm)].map(([, flag = ""]) => flag);
  return { command, summary, actions, flags: [...new Set([...flags, "--help"])] };
}

/** Where nothing is known to follow, such as after `--token-file`, bash completes names of files. */
function bashScript(all: readonly Completions[]): string {
  return `# In ~/.bashrc: source <(sessiond completion bash)
_sessiond() {
  local current=\${COMP_WORDS[COMP_CWORD]} actions= flags=
  case \${COMP_WORDS[1]} in
${all.map(({ command, actions, flags }) => `    ${command}) actions="${words(actions)}" flags="${words(flags)}" ;;`).join("\n")}
  esac
  local words=
  if ((COMP_CWORD == 1)); then words="${firstWords(all)}"
  elif [[ $current == -* ]]; then words=$flags
  elif ((COMP_CWORD == 2)); then words=$actions
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _sessiond sessiond
`;
}

function zshScript(all: readonly Completions[]): string {
  return `#compdef sessiond
# In ~/.zshrc, after compinit: source <(sessiond completion zsh)
_sessiond() {
  local -a actions flags
  case $words[2] in
${all.map(({ command, actions, flags }) => `    ${command}) actions=(${words(actions)}) flags=(${words(flags)}) ;;`).join("\n")}
  esac
  if ((CURRENT == 2)); then compadd -- ${firstWords(all)}
  elif [[ $words[CURRENT] == -* ]]; then compadd -- $flags
  elif ((CURRENT == 3 && $#actions > 0)); then compadd -- $actions
  else _files
  fi
}
compdef _sessiond sessiond
`;
}

function fishScript(all: readonly Completions[]): string {
  const lines = all.flatMap(({ command, summary, actions, flags }) => [
    `complete -c sessiond -n __fish_use_subcommand -f -a ${command} -d '${summary.replaceAll("'", "\\'")}'`,
    ...actions.map(
      (action) => `complete -c sessiond -n '${beforeAction(command, actions)}' -f -a ${action}`,
    ),
    ...flags.map(
      (flag) =>
        `complete -c sessiond -n '__fish_seen_subcommand_from ${command}' -l ${flag.slice(2)}`,
    ),
  ]);
  lines.push("complete -c sessiond -n __fish_use_subcommand -f -a help");
  return `# In ~/.config/fish/config.fish: sessiond completion fish | source\n${lines.join("\n")}\n`;
}

/** True after the command, until one of its actions is there. */
function beforeAction(command: string, actions: readonly string[]): string {
  const seen = "__fish_seen_subcommand_from";
  return `${seen} ${command}; and not ${seen} ${actions.join(" ")}`;
}

function words(list: readonly string[]): string {
  return list.join(" ");
}

function firstWords(all: readonly Completions[]): string {
  return words([...all.map(({ command }) => command), "help"]);
}

const HELP = `Usage: sessiond completion bash|zsh|fish

Prints a script for the shell. Put one of these lines where it starts:

  bash   source <(sessiond completion bash)
  zsh    source <(sessiond completion zsh)
  fish   sessiond completion fish | source
`;
