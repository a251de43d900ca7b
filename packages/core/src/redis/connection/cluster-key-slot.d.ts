// The package brings no types.
declare module "cluster-key-slot" {
  /** The slot of a Redis Cluster that a key is in, by its hash tag if it has one. */
  export default function calculateSlot(key: string): number;
}
