// biome-ignore-all lint/a11y/useSemanticElements: rows of a real table cannot be placed one by one.
// biome-ignore-all lint/a11y/useFocusableInteractive: the grid has the focus, and names the active row.
// biome-ignore-all lint/a11y/useKeyWithClickEvents: the grid takes the keys.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** As in styles/elements.css. Every row is as high, so that no row must be measured. */
const ROW_PX = 60;
/** Rows above and below what is seen, so that a fast scroll shows no gap. */
const OVERSCAN = 8;
const SEEN_MS = 10_000;

type Box = RefObject<HTMLDivElement | null>;

/** A column of the table. */
export interface Column<T> {
  readonly title: string;
  /** The class of its cells, which styles/narrow.css gives a place where the screen is narrow. */
  readonly name: string;
  readonly cell: (row: T) => ComponentChildren;
  /** What is shown on hover. */
  readonly hint?: (row: T) => string | undefined;
}

interface VirtualRowsProps<T extends { readonly id: string }> {
  readonly label: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly onOpen: (row: T) => void;
  /** Called with the rows on the screen, every ten seconds. */
  readonly onSeen?: (rows: readonly T[]) => void;
}

/**
 * A table of any length of which only the rows on the screen exist. The keyboard moves through it as
 * through any grid (https://www.w3.org/WAI/ARIA/apg/patterns/grid/): arrows, Page, Home, End, Enter.
 */
export function VirtualRows<T extends { readonly id: string }>(props: VirtualRowsProps<T>) {
  const { rows, columns, onOpen, onSeen } = props;
  const box = useRef<HTMLDivElement>(null);
  const view = useView(box);
  const first = Math.max(0, Math.floor(view.top / ROW_PX) - OVERSCAN);
  const shown = rows.slice(first, Math.ceil((view.top + view.height) / ROW_PX) + OVERSCAN);
  const { activeId, setActiveId, onKeyDown, onFocus } = useKeys(box, rows, onOpen);
  useEvery(SEEN_MS, () => onSeen?.(shown));
  const activeIsShown = shown.some(({ id }) => id === activeId);
  return (
    <div
      ref={box}
      class="grid"
      role="grid"
      aria-label={props.label}
      aria-rowcount={rows.length + 1}
      aria-colcount={columns.length}
      aria-activedescendant={activeIsShown ? `row-${activeId}` : undefined}
      tabIndex={0}
      onKeyDown={onKeyDown}
      onFocus={onFocus}
    >
      <div class="row head" role="row" aria-rowindex={1}>
        {columns.map(({ title }) => (
          <div key={title} role="columnheader">
            {title}
          </div>
        ))}
      </div>
      <div class="all" role="rowgroup" style={{ height: `${rows.length * ROW_PX}px` }}>
        {shown.map((row, i) => (
          <div
            key={row.id}
            id={`row-${row.id}`}
            class={row.id === activeId ? "row active" : "row"}
            role="row"
            aria-rowindex={first + i + 2}
            style={{ top: `${(first + i) * ROW_PX}px` }}
            onClick={() => {
              setActiveId(row.id);
              onOpen(row);
            }}
          >
            {columns.map(({ name, cell, hint }) => (
              <div key={name} role="gridcell" class={name} title={hint?.(row)}>
                {cell(row)}
              </div>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}

/** Which part of the element is on the screen, in pixels. */
function useView(box: Box) {
  const [view, setView] = useState({ top: 0, height: 0 });
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [box]);
  return view;
}

/** Moves the active row with the keyboard, and keeps it on the screen. */
function useKeys<T extends { readonly id: string }>(
  box: Box,
  rows: readonly T[],
  onOpen: (row: T) => void,
) {
  const [activeId, setActiveId] = useState<string | undefined>();
  const activate = (index: number) => {
    const at = Math.max(0, Math.min(index, rows.length - 1));
    setActiveId(rows[at]?.id);
    if (box.current !== null) scrollTo(box.current, at * ROW_PX);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const at = rows.findIndex(({ id }) => id === activeId);
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? 0) / ROW_PX) - 1);
    const moves: Readonly<Record<string, number>> = {
      ...{ ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page },
      ...{ Home: 0, End: rows.length - 1 },
    };
    const to = moves[event.key];
    const active = rows[at];
    if (to !== undefined) activate(to);
    else if (event.key === "Enter" && active !== undefined) onOpen(active);
    else return;
    event.preventDefault();
  };
  const onFocus = () => {
    if (activeId === undefined) activate(Math.floor((box.current?.scrollTop ?? 0) / ROW_PX));
  };
  return { activeId, setActiveId, onKeyDown, onFocus };
}

/** Scrolls as little as needed to show the whole row that begins at `topPx`, below the heading. */
function scrollTo(element: HTMLElement, topPx: number): void {
  const headPx = element.firstElementChild?.clientHeight ?? 0;
  const lowestPx = Math.max(topPx - (element.clientHeight - headPx - ROW_PX), 0);
  element.scrollTop = Math.max(lowestPx, Math.min(element.scrollTop, topPx));
}

/** Calls the latest `act` once in a while. */
function useEvery(ms: number, act: () => void): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    const timer = setInterval(() => latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}
