export {};

/**
 * The declarations of playwright-core name these types of TypeScript's `dom` library, of which
 * nothing exists in Node.js.
 */
declare global {
  type Node = unknown;
  type HTMLElement = unknown;
  type SVGElement = unknown;
  type HTMLElementTagNameMap = Record<string, unknown>;
}
