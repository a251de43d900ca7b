import { jsonLine, printable } from "../terminal/printable.js";
import { type Style, styled } from "../terminal/table.js";
import type { Finding, Outcome, Skipped } from "./checks/check.js";
import { counted } from "./checks/texts.js";

/** A check by its name, and what came of it. */
export type CheckReport = { readonly check: string } & (Outcome | Skipped);

type Status = "ok" | "warning" | "fault" | "skipped";

const STYLES = {
  ok: "green",
  warning: "yellow",
  fault: "red",
  skipped: "dim",
} as const satisfies Record<Status, Style>;
const STATUS_WIDTH = "warning".length;
const CHECK_WIDTH = "certificates".length;
const INDENT = " ".repeat(STATUS_WIDTH + 2);

/** The worst that was found. */
export function statusOf(report: CheckReport): Status {
  if ("skipped" in report) return "skipped";
  const severities = (report.findings ?? []).map(({ severity }) => severity);
  return severities.includes("fault") ? "fault" : (severities[0] ?? "ok");
}

/** One line of JSON. */
export function jsonReport(report: CheckReport): string {
  const { check } = report;
  const status = statusOf(report);
  if ("skipped" in report) return jsonLine({ check, status, reason: report.skipped });
  const { summary, findings = [], unknown = [] } = report;
  return jsonLine({ check, status, summary, findings, unknown });
}

/** A line for the check, and two for each finding. */
export function textReport(report: CheckReport, colors: boolean): string {
  const status = statusOf(report);
  const style = (text: string, as: Style) => styled(printable(text), as, colors);
  const head = `${style(status.padEnd(STATUS_WIDTH), STYLES[status])}  ${report.check.padEnd(CHECK_WIDTH)}`;
  if ("skipped" in report) return `${head}  ${style(report.skipped, "dim")}\n`;
  const lines = [
    `${head}  ${printable(report.summary)}`.trimEnd(),
    ...(report.findings ?? []).flatMap(({ severity, problem, remedy }: Finding) => [
      `${INDENT}${style(problem, STYLES[severity])}`,
      `${INDENT}  ${printable(remedy)}`,
    ]),
    ...(report.unknown ?? []).map((what) => `${INDENT}${style(`not known: ${what}`, "dim")}`),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

/** The last line. */
export function summarize(reports: readonly CheckReport[]): string {
  const count = (status: Status) => reports.filter((report) => statusOf(report) === status).length;
  const parts = (["fault", "warning"] as const).map((status) =>
    count(status) === 0 ? `no ${status}` : `${counted(count(status), "check")} with a ${status}`,
  );
  const skipped = count("skipped");
  return `${[...parts, ...(skipped > 0 ? [`${skipped} skipped`] : [])].join(", ")}\n`;
}
