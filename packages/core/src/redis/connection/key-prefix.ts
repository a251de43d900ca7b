import { assertNamespace } from "../../namespace.js";

/**
 * What stands before every key and channel of a namespace. No kind of key is called `ns`, and no
 * name has a colon, so no two namespaces share a key. `prefix` is the store's own and must contain
 * no `{`, because the first brace of a key begins its hash tag.
 */
export function keyPrefixOf(prefix: string, namespace: string): string {
  if (prefix.includes("{")) throw new Error(`a key prefix must not contain "{": "${prefix}"`);
  assertNamespace(namespace);
  return namespace === "" ? prefix : `${prefix}ns:${namespace}:`;
}
