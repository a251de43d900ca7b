/**
 * The declarations of playwright-core name these types of TypeScript's `dom` library. Our tests pass
 * code to pages as text, so the server is compiled without it.
 */
interface Node {
  readonly nodeType: number;
}
interface HTMLElement extends Node {}
interface SVGElement extends Node {}
interface HTMLElementTagNameMap extends Record<string, HTMLElement> {}
