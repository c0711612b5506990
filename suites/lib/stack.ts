import type { Client } from './client.ts';
import { SyscallError } from './client.ts';
import type { FuseMount } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';
import { fuseDepth, MAX_STACK_DEPTH } from './stack-depth.ts';
import type { StackedMount } from './stacked-mount.ts';

export type Layer = 'overlayfs' | 'ecryptfs' | 'FUSE';

/**
 * Filesystems one on top of the other over a directory on ext4, by the rules that every server could know: a
 * FUSE layer asks for the smallest max_stack_depth that its lower layer allows. Disposing takes it down from
 * the top.
 */
export class Stack implements AsyncDisposable {
  readonly fuses: FuseMount[] = [];
  readonly #guest: TestGuest;
  readonly #client: Client;
  readonly #mounts: (FuseMount | StackedMount)[] = [];
  readonly #layers: Layer[] = [];
  #top: string;
  #depth = 0;

  private constructor(guest: TestGuest, client: Client, bottom: string) {
    this.#guest = guest;
    this.#client = client;
    this.#top = bottom;
  }

  /** `layers`: the lowest first. @throws SyscallError when one of them does not fit. */
  static async build(guest: TestGuest, client: Client, layers: readonly Layer[]): Promise<Stack> {
    const stack = new Stack(guest, client, await guest.directory('ext4', 'bottom'));
    try {
      for (const layer of layers) await stack.push(layer);
      return stack;
    } catch (error) {
      await stack[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Directory of the uppermost layer. */
  get top(): string {
    return this.#top;
  }

  /** What the superblock of the uppermost layer should count. */
  get depth(): number {
    return this.#depth;
  }

  /** `overlayfs over ecryptfs`. */
  get name(): string {
    return nameOf(this.#layers);
  }

  /** What a further layer on top would be called. */
  nameWith(layer: Layer): string {
    return nameOf([...this.#layers, layer]);
  }

  file(name: string): string {
    return `${this.#top}/${name}`;
  }

  /** @throws SyscallError */
  async push(layer: Layer): Promise<void> {
    const mount = await this.#mount(layer);
    this.#mounts.push(mount);
    if ('server' in mount) this.fuses.push(mount);
    this.#layers.push(layer);
    this.#top = mount.path;
    this.#depth = layer === 'FUSE' ? fuseDepth(this.#guest, this.#asked()) : this.#depth + 1;
  }

  /**
   * Whether one more layer fits: `ok` or the errno. A FUSE filesystem can be mounted over anything, so there
   * it is the registration of a file of the layer below that tells.
   */
  async fits(layer: Layer): Promise<string> {
    try {
      await using mount = await this.#mount(layer);
      return 'server' in mount ? await this.#registers(mount) : 'ok';
    } catch (error) {
      if (error instanceof SyscallError) return error.errno;
      throw error;
    }
  }

  async #registers(fuse: FuseMount): Promise<string> {
    await this.#client.writeFile({ path: this.file('probe'), data: 'probe' });
    return fuse.server.registerErrno({ path: this.file('probe'), flags: 'O_RDWR' });
  }

  /** The smallest max_stack_depth with which files of the uppermost layer can be registered, if any. */
  #asked(): number {
    return Math.min(this.#depth + 1, MAX_STACK_DEPTH);
  }

  async #mount(layer: Layer): Promise<FuseMount | StackedMount> {
    switch (layer) {
      case 'FUSE': {
        const init = { maxStackDepth: this.#asked() };
        return this.#guest.mountFuse({ root: this.#top, init });
      }
      case 'ecryptfs':
        return this.#guest.mountEcryptfs({ lower: this.#top }, this.#client);
      case 'overlayfs':
        return this.#guest.mountOverlay({ lower: this.#top, ...(await upperOn(this.#guest)) }, this.#client);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const mount of this.#mounts.reverse()) await mount[Symbol.asyncDispose]();
  }
}

/** Fresh directories for the writable side of an overlay. */
export async function upperOn(
  guest: TestGuest,
  place: 'ext4' | 'tmpfs' = 'ext4',
): Promise<{ upper: string; work: string }> {
  return { upper: await guest.directory(place, 'upper'), work: await guest.directory(place, 'work') };
}

function nameOf(layers: readonly Layer[]): string {
  return [...layers].reverse().join(' over ');
}
