import type { OpcodeName } from '#rootfs/protocol/fuse.ts';
import type { RequestRecord } from '#rootfs/protocol/requests.ts';
import { OpenFlag } from './fuse-abi.ts';
import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { FuseServer } from './fuse-server.ts';
import type { TestGuest } from './guest.ts';
import { WITHOUT_PASSTHROUGH } from './registration.ts';

export interface WitnessOptions {
  /** `direct`: every read and write is one request as it came; `cached`: through the page cache of the lower one. */
  readonly io?: 'direct' | 'cached' | undefined;
  /** Further members of the lower server's answer to INIT. */
  readonly lowerInit?: FuseOptions['init'];
  /** The server that registers, where it is not an ordinary one: other credentials. */
  readonly server?: FuseServer | undefined;
  readonly upper?: Pick<FuseOptions, 'openFlags' | 'init' | 'attrValidS'> | undefined;
}

/**
 * A FUSE filesystem in passthrough mode whose backing files lie on a plain FUSE filesystem: the log of the lower
 * server has what the kernel really sends to a backing file, with the credentials, flags and offsets of each
 * request. Both serve one directory, which the upper server reaches directly: what is in the lower log comes
 * from its registrations and from the kernel.
 */
export class Witness implements AsyncDisposable {
  readonly lower: FuseMount;
  readonly upper: FuseMount;
  readonly #reopens: boolean;

  private constructor(lower: FuseMount, upper: FuseMount, reopens: boolean) {
    this.lower = lower;
    this.upper = upper;
    this.#reopens = reopens;
  }

  static async mount(guest: TestGuest, options: WitnessOptions = {}): Promise<Witness> {
    const root = await guest.directory('ext4', 'root');
    const { flags, ...init } = { ...WITHOUT_PASSTHROUGH, ...options.lowerInit };
    const lower = await guest.mountFuse({
      root,
      passthrough: 'off',
      init: flags === undefined ? init : { flags, ...init },
    });
    if (options.io !== 'cached') {
      await lower.answerOpen({ opcode: ['OPEN', 'CREATE'] }, { openFlags: OpenFlag.DIRECT_IO });
    }
    const { server, upper } = options;
    const mount = { root, backingRoot: lower.path, server, ...upper };
    return new Witness(lower, await guest.mountFuse(mount), guest.expected.reopensBackingFile);
  }

  /** The opens of the lower file that carry the I/O: the kernel's own, or those that were registered. */
  async backingOpens(after?: number): Promise<RequestRecord[]> {
    const opens = await this.lower.requests({ opcode: 'OPEN', after });
    const registrar = this.upper.server.pid;
    return opens.filter(({ pid }) => (pid === registrar) !== this.#reopens);
  }

  /** What was asked of the lower file through those opens, in the order of arrival. */
  async sent(opcode: OpcodeName | readonly OpcodeName[], after?: number): Promise<RequestRecord[]> {
    const handles = (await this.backingOpens()).map(({ reply }) => reply?.open?.fh);
    const requests = await this.lower.requests({ opcode, after });
    return requests.filter(({ args }) => handles.includes(Number(args['fh'])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.upper[Symbol.asyncDispose]();
    await this.lower[Symbol.asyncDispose]();
  }
}
