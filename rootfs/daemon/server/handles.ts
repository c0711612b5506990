/** What an `fh` stands for. */
export interface Handle {
  readonly fh: number;
  readonly nodeid: number;
  /** The server's own descriptor for requests that come to it, opened when the first one does. */
  fd: number | undefined;
  readonly flags: number;
  /** 0: not in passthrough mode. */
  backingId: number;
  /** Names of a directory as of its first READDIR. */
  entries?: readonly string[];
}

export class HandleTable {
  readonly #handles = new Map<number, Handle>();
  #next = 1;

  add(nodeid: number, flags: number, fd?: number): Handle {
    const handle: Handle = { fh: this.#next++, nodeid, fd, flags, backingId: 0 };
    this.#handles.set(handle.fh, handle);
    return handle;
  }

  get(fh: number): Handle | undefined {
    return this.#handles.get(fh);
  }

  /** A descriptor through which the file can still be reached when it has no name any more. */
  anyFd(nodeid: number): number | undefined {
    for (const handle of this.#handles.values()) {
      if (handle.nodeid === nodeid && handle.fd !== undefined) return handle.fd;
    }
    return undefined;
  }

  remove(fh: number): Handle | undefined {
    const handle = this.#handles.get(fh);
    this.#handles.delete(fh);
    return handle;
  }

  all(): Handle[] {
    return [...this.#handles.values()];
  }
}
