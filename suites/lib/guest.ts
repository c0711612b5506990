import type { BackingName, KernelLogRecord } from '#rootfs/protocol/calls.ts';
import { text } from './bytes.ts';
import { startClient, SyscallError, type Client, type ClientOptions } from './client.ts';
import { passphraseKey } from './ecryptfs-format.ts';
import { expectationsFor, type Expectations } from './expectations.ts';
import { FuseMount, type FuseOptions } from './fuse-mount.ts';
import { FuseServer, type ServerOptions } from './fuse-server.ts';
import type { Lease } from './lease.ts';
import { SpareDisk, type DiskFilesystem, type FormatOptions } from './spare-disk.ts';
import {
  ecryptfsRequest,
  overlayRequest,
  StackedMount,
  type MountRequest,
  type OverlayOptions,
} from './stacked-mount.ts';

export interface RunOptions {
  readonly stdin?: Uint8Array | undefined;
  readonly cwd?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface RunOutcome {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The test cannot say anything on this kernel; thrown by `guest.skip`. */
export class SkipTest extends Error {
  override readonly name = 'SkipTest';
}

/** The leased machine in the words that tests use. Everything it gives is disposable and disposed by the test. */
export class TestGuest {
  readonly lease: Lease;
  /** What this kernel's generation of the interface is expected to do. */
  readonly expected: Expectations;

  constructor(lease: Lease) {
    this.lease = lease;
    this.expected = expectationsFor(lease.terms);
  }

  /** A process that makes system calls. */
  client(options: ClientOptions = {}): Promise<Client> {
    return startClient(this.lease, options);
  }

  /** A FUSE server that has not mounted anything. */
  server(options: ServerOptions = {}): Promise<FuseServer> {
    return FuseServer.start(this.lease, options);
  }

  /** A FUSE filesystem over a fresh directory on ext4, every file in passthrough mode, unless told otherwise. */
  mountFuse(options: FuseOptions = {}): Promise<FuseMount> {
    return FuseMount.make(this.lease, { abi: this.expected.abi, ...options });
  }

  /** A fresh directory on a backing filesystem, or a mount point in the test area. */
  async directory(place: BackingName | 'area', name = 'd'): Promise<string> {
    return (await this.lease.call('dir.make', { in: place, name })).path;
  }

  /** @throws Error when the program fails. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<RunOutcome> {
    const outcome = await this.tryRun(argv, options);
    if (outcome.code === 0) return outcome;
    const how = outcome.signal ?? String(outcome.code);
    throw new Error(`${argv.join(' ')} ended with ${how}: ${outcome.stderr.trim()}`);
  }

  async tryRun(argv: readonly string[], options: RunOptions = {}): Promise<RunOutcome> {
    const timeoutMs = this.lease.scaled(options.timeoutMs ?? 20_000);
    const result = await this.lease.call('run', { argv, ...options, timeoutMs });
    if (result.timedOut) throw new Error(`${argv.join(' ')} did not end in ${timeoutMs} ms`);
    const { code, signal, stdout, stderr } = result;
    return { code, signal, stdout: text(stdout), stderr: text(stderr) };
  }

  // --- stacked filesystems ----------------------------------------------------------------------------

  /** mount(2) on a fresh mount point, by a process of its own unless one is given. @throws SyscallError */
  async mount(request: MountRequest, by?: Client): Promise<StackedMount> {
    const client = by ?? (await this.client());
    try {
      const target = await this.directory('area', request.type);
      const { source, type, flags = '', options = '' } = request;
      await client.mount({ source, target, type, flags, options });
      return new StackedMount(client, target, by === undefined);
    } catch (error) {
      if (by === undefined) await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The errno of a mount, or `ok`; one that succeeds is unmounted again. */
  async mountErrno(request: MountRequest, by?: Client): Promise<string> {
    try {
      await using _mount = await this.mount(request, by);
      return 'ok';
    } catch (error) {
      if (error instanceof SyscallError) return error.errno;
      throw error;
    }
  }

  /** `upper: 'fresh'` is not a word: make directories with `directory`; upper and work belong to one filesystem. */
  mountOverlay(options: OverlayOptions, by?: Client): Promise<StackedMount> {
    return this.mount(overlayRequest(options), by);
  }

  async mountEcryptfs({ lower }: { readonly lower: string }, by?: Client): Promise<StackedMount> {
    return this.mount(ecryptfsRequest(lower, await this.ecryptfsKey()), by);
  }

  /** A fresh filesystem on the machine's spare disk, which may be filled, frozen, shut down and made to fail. */
  spareDisk(type: DiskFilesystem, options: FormatOptions = {}): Promise<SpareDisk> {
    return SpareDisk.format(this, type, options);
  }

  /**
   * Signature of a key in root's user keyring, for mounts of ecryptfs. It stays there: what a passphrase becomes
   * takes ecryptfs-utils a second under emulation, and is the same every time.
   */
  async ecryptfsKey(passphrase = 'fusegate'): Promise<string> {
    const { signature } = passphraseKey(passphrase);
    const there = await this.tryRun(['grep', '-q', ` user *${signature}: `, '/proc/keys']);
    if (there.code === 0) return signature;
    const stdin = new Uint8Array(Buffer.from(passphrase));
    const { stdout } = await this.run(['ecryptfs-add-passphrase', '-'], { stdin });
    if (stdout.includes(`sig [${signature}]`)) return signature;
    throw new Error(`ecryptfs-add-passphrase did not give ${signature}: ${stdout}`);
  }

  // --- the backing filesystem as an oracle -------------------------------------------------------------

  /**
   * `ok`, or EBUSY while anything holds a file of it: an open file, a mapping, a registered backing file.
   * Mount it again before the next use.
   */
  async umountBacking(backing: BackingName = 'ext4'): Promise<string> {
    const result = await this.lease.call('backing.umount', { backing });
    return 'errno' in result ? result.errno : 'ok';
  }

  async mountBacking(backing: BackingName = 'ext4'): Promise<void> {
    const result = await this.lease.call('backing.mount', { backing });
    if ('errno' in result) throw new SyscallError('mount', result.errno, { backing });
  }

  /** Whether anything holds the backing filesystem now; it is there again afterwards. */
  async isBackingBusy(backing: BackingName = 'ext4'): Promise<boolean> {
    const errno = await this.umountBacking(backing);
    if (errno === 'EBUSY') return true;
    await this.mountBacking(backing);
    return false;
  }

  // --- the kernel --------------------------------------------------------------------------------------

  async kernelLog(after?: number): Promise<KernelLogRecord[]> {
    return (await this.lease.call('kernel.log', { after })).records;
  }

  /** Where a process stands in the kernel: state, wait channel and stack of each thread. */
  async where(pid: number): Promise<string> {
    return (await this.lease.call('process.where', { pid })).text;
  }

  async hasFilesystem(type: string): Promise<boolean> {
    const { stdout } = await this.run(['cat', '/proc/filesystems']);
    return stdout.split('\n').some((line) => line.split('\t').at(-1) === type);
  }

  /** Ends the test as skipped when this generation of the interface does not have what the test is about. */
  needs(has: boolean, what: string): void {
    if (!has) this.skip(`this generation has no ${what}`);
  }

  /** The same when this kernel was built without what the test is about, whatever its generation. */
  needsBuilt(has: boolean, what: string): void {
    if (!has) this.skip(`this kernel is built without ${what}`);
  }

  /** Ends the test as skipped: say what is missing. */
  skip(reason: string): never {
    throw new SkipTest(reason);
  }
}
