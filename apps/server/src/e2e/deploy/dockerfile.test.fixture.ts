import { readFileSync } from "node:fs";
import { DockerfileParser } from "dockerfile-ast";
import { inRepository } from "../../testing/instruments.js";

/** The Dockerfile, for tests that run its commands: an image needs an engine and a registry. */
export interface Dockerfile {
  readonly text: string;
  /** The image's settings of the server. */
  readonly environment: Readonly<Record<string, string>>;
  /** What follows each instruction of this name, in order. */
  argumentsOf(instruction: string): readonly string[];
  /** The words of a command that is written as JSON. */
  commandOf(instruction: "ENTRYPOINT" | "CMD" | "HEALTHCHECK"): readonly string[];
}

export function readDockerfile(): Dockerfile {
  const text = readFileSync(inRepository("deploy/docker/Dockerfile"), "utf8");
  const parsed = DockerfileParser.parse(text);
  const properties = parsed.getENVs().flatMap((instruction) => instruction.getProperties());
  const argumentsOf = (instruction: string) =>
    parsed
      .getInstructions()
      .filter((one) => one.getKeyword() === instruction)
      .map((one) => one.getArgumentsContent() ?? "");
  return {
    text,
    environment: Object.fromEntries(properties.map((one) => [one.getName(), one.getValue() ?? ""])),
    argumentsOf,
    commandOf: (instruction) => {
      const [command = ""] = argumentsOf(instruction);
      return JSON.parse(command.slice(command.indexOf("[")));
    },
  };
}
