import { resolve } from 'node:path';

export const ROOT_NODEID = 1;

/** A file of the served directory as the kernel knows it. Holds no descriptor: it must not keep the backing filesystem busy. */
export interface Inode {
  readonly nodeid: number;
  /** `device:inode` of the served directory's filesystem. */
  readonly key: string;
  /** Paths relative to the root, each beginning with `/`; several for hard links, none once it is unlinked. */
  readonly names: Set<string>;
  /** How often the kernel was given the node; it forgets by this count. */
  lookups: number;
}

/** nodeid ↔ file. Node ids are never used twice, so that the generation can stay 0. */
export class InodeTable {
  readonly #root: string;
  readonly #byNodeid = new Map<number, Inode>();
  readonly #byKey = new Map<string, Inode>();
  readonly #byName = new Map<string, Inode>();
  #nextNodeid = ROOT_NODEID + 1;

  constructor(root: string, rootKey: string) {
    this.#root = resolve(root);
    const rootInode = { nodeid: ROOT_NODEID, key: rootKey, names: new Set(['/']), lookups: 1 };
    this.#put(rootInode);
    this.#byName.set('/', rootInode);
  }

  get(nodeid: number): Inode | undefined {
    return this.#byNodeid.get(nodeid);
  }

  all(): Inode[] {
    return [...this.#byNodeid.values()];
  }

  /** One of the inode's paths below the root, or undefined when it has none any more. */
  nameOf(nodeid: number): string | undefined {
    return this.#byNodeid.get(nodeid)?.names.values().next().value;
  }

  byName(name: string): Inode | undefined {
    return this.#byName.get(name);
  }

  absolute(name: string): string {
    return name === '/' ? this.#root : `${this.#root}${name}`;
  }

  /** The inode of this file under this name, as the kernel is about to be told: counts a lookup. */
  remember(key: string, name: string | null): Inode {
    let inode = this.#byKey.get(key);
    if (inode === undefined) {
      inode = { nodeid: this.#nextNodeid++, key, names: new Set(), lookups: 0 };
      this.#put(inode);
    }
    if (name !== null) this.#setName(name, inode);
    inode.lookups += 1;
    return inode;
  }

  forget(nodeid: number, count: number): void {
    const inode = this.#byNodeid.get(nodeid);
    if (inode === undefined || nodeid === ROOT_NODEID) return;
    inode.lookups -= count;
    if (inode.lookups > 0) return;
    this.#byNodeid.delete(nodeid);
    if (this.#byKey.get(inode.key) === inode) this.#byKey.delete(inode.key);
    for (const name of inode.names) if (this.#byName.get(name) === inode) this.#byName.delete(name);
  }

  removeName(name: string): void {
    const inode = this.#byName.get(name);
    if (inode === undefined) return;
    this.#byName.delete(name);
    inode.names.delete(name);
    // The backing filesystem may give the number to another file: that one is a new node.
    if (inode.names.size === 0 && this.#byKey.get(inode.key) === inode) this.#byKey.delete(inode.key);
  }

  /** Moves a name and everything below it. */
  rename(from: string, to: string): void {
    this.removeName(to);
    for (const [name, inode] of [...this.#byName]) {
      if (name !== from && !name.startsWith(`${from}/`)) continue;
      this.#byName.delete(name);
      inode.names.delete(name);
      this.#setName(to + name.slice(from.length), inode);
    }
  }

  exchange(one: string, other: string): void {
    const aside = `${one}\0aside`;
    this.rename(one, aside);
    this.rename(other, one);
    this.rename(aside, other);
  }

  #put(inode: Inode): void {
    this.#byNodeid.set(inode.nodeid, inode);
    this.#byKey.set(inode.key, inode);
  }

  #setName(name: string, inode: Inode): void {
    const before = this.#byName.get(name);
    if (before === inode) return;
    if (before !== undefined) this.removeName(name);
    this.#byName.set(name, inode);
    inode.names.add(name);
  }
}
