/** What can be in a list, in one at a time. */
export class Link {
  #previous: Link = this;
  #next: Link = this;

  /** Only for lists. The link itself if it is in none. */
  get next(): Link {
    return this.#next;
  }

  /** Only for lists. */
  insertBefore(next: Link): void {
    const previous = next.#previous;
    this.#previous = previous;
    this.#next = next;
    previous.#next = this;
    next.#previous = this;
  }

  /** Takes it out of its list, if it is in one. */
  remove(): void {
    this.#previous.#next = this.#next;
    this.#next.#previous = this.#previous;
    // What has left must not keep alive what comes after it.
    this.#previous = this;
    this.#next = this;
  }
}

/**
 * What comes and goes, the oldest first. A Set does the same, but keeps calls alive long after they have
 * ended (docs/adr/0028-lists-of-what-is-under-way.md).
 */
export class LinkedList<T extends Link> {
  readonly #end = new Link();

  /** Undefined if the list is empty. */
  get first(): T | undefined {
    const { next } = this.#end;
    return next === this.#end ? undefined : (next as T);
  }

  get isEmpty(): boolean {
    return this.first === undefined;
  }

  /** All of them now. */
  toArray(): T[] {
    const all: T[] = [];
    for (let link = this.#end.next; link !== this.#end; link = link.next) all.push(link as T);
    return all;
  }

  add(link: T): void {
    link.insertBefore(this.#end);
  }
}
