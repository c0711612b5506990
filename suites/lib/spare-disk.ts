import type { Client } from './client.ts';
import type { TestGuest } from './guest.ts';
import { StackedMount } from './stacked-mount.ts';

const SECTOR_BYTES = 512;
/** Name of the mapped device: there is one at a time, as there is one disk. */
const MAPPED = 'spare';

export type DiskFilesystem = 'ext4' | 'xfs';

/**
 * What the device mapper does with the disk: pass everything on, fail everything, or fail or lose writes only.
 * Documentation/admin-guide/device-mapper: `linear`, `dm-flakey`.
 */
export type DiskBehaviour = 'works' | 'fails' | 'fails-writes' | 'drops-writes';

export interface FormatOptions {
  /** Further arguments of mkfs. */
  readonly mkfs?: readonly string[] | undefined;
  /** As for `mount -o`. */
  readonly options?: string | undefined;
  /** Put the device mapper between disk and filesystem, so that `behave` can be used. */
  readonly mapped?: boolean | undefined;
}

/**
 * A filesystem on the machine's spare disk. Disposing unmounts it, whatever the disk does, and takes the mapped
 * device down. What was on the disk is then of no matter: every test formats it anew.
 */
export class SpareDisk implements AsyncDisposable {
  readonly type: DiskFilesystem;
  /** Mount point. */
  readonly path: string;
  readonly device: string;
  readonly #client: Client;
  readonly #options: string;
  readonly #mapping: Mapping | null;
  #mount: StackedMount | undefined;
  #made = 0;

  private constructor(
    client: Client,
    how: { type: DiskFilesystem; path: string; device: string; options: string; mapping: Mapping | null },
  ) {
    this.#client = client;
    this.type = how.type;
    this.path = how.path;
    this.device = how.device;
    this.#options = how.options;
    this.#mapping = how.mapping;
  }

  /** Formats the disk and mounts it. Ends the test as skipped where there is no such disk. */
  static async format(
    guest: TestGuest,
    type: DiskFilesystem,
    { mkfs = [], options = '', mapped = false }: FormatOptions = {},
  ): Promise<SpareDisk> {
    const { device: disk } = await guest.lease.call('spare-disk.find', {});
    if (disk === null) guest.skip('this machine has no disk to spare');
    guest.needsBuilt(await guest.hasFilesystem(type), type);
    if (mapped) guest.needsBuilt(await hasDeviceMapper(guest), 'the device mapper');
    await using stack = new AsyncDisposableStack();
    const client = stack.use(await guest.client());
    const mapping = mapped ? stack.use(await Mapping.create(guest, disk)) : null;
    const device = mapping === null ? disk : mapping.device;
    await guest.run([`mkfs.${type}`, ...(type === 'xfs' ? ['-q', '-f'] : ['-q', '-F']), ...mkfs, device]);
    const path = await guest.directory('area', type);
    const made = new SpareDisk(client, { type, path, device, options, mapping });
    await made.mount();
    stack.move();
    return made;
  }

  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** A fresh directory on it: what a FUSE server can serve. */
  async directory(name = 'd'): Promise<string> {
    this.#made += 1;
    const path = `${this.path}/${name}-${this.#made}`;
    await this.#client.mkdir({ path, mode: 0o755 });
    return path;
  }

  /** Again, after `unmount`. @throws SyscallError */
  async mount(flags = ''): Promise<void> {
    const [source, target, type, options] = [this.device, this.path, this.type, this.#options];
    await this.#client.mount({ source, target, type, flags, options });
    this.#mount = new StackedMount(this.#client, target, false);
  }

  /** @returns `ok` or the errno: EBUSY while anything holds a file of it. */
  async unmount(flags = ''): Promise<string> {
    const errno = (await this.#mount?.unmount(flags)) ?? 'EINVAL';
    if (errno === 'ok') this.#mount = undefined;
    return errno;
  }

  /** Of a filesystem that is mounted. @returns `ok` or the errno. */
  remount(flags: string): Promise<string> {
    return this.#client.errno.mount({
      source: '',
      target: this.path,
      type: '',
      flags: `MS_REMOUNT|${flags}`,
    });
  }

  /**
   * What the disk does from now on. `mapped` only. Nothing is written back before, unless `flush` is told: the
   * disk is not told that its owner is still there, as with a cable that is pulled.
   */
  async behave(
    behaviour: DiskBehaviour,
    { flush = false }: { readonly flush?: boolean } = {},
  ): Promise<void> {
    if (this.#mapping === null) throw new TypeError('format the disk with `mapped: true`');
    await this.#mapping.reload(behaviour, flush);
  }

  /** Every request waits from now on. `mapped` only. */
  async suspend(): Promise<void> {
    await this.#mapping?.suspend();
  }

  async resume(): Promise<void> {
    await this.#mapping?.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mapping?.resume();
    if (this.#mount !== undefined) await this.unmount('MNT_DETACH');
    await this.#mapping?.[Symbol.asyncDispose]();
    await this.#client[Symbol.asyncDispose]();
  }
}

async function hasDeviceMapper(guest: TestGuest): Promise<boolean> {
  return (await guest.tryRun(['dmsetup', 'version'])).code === 0;
}

/** A device of the device mapper over the whole disk. */
class Mapping implements AsyncDisposable {
  /** As devtmpfs has it: nobody makes the names below /dev/mapper here. */
  device = '';
  readonly #guest: TestGuest;
  readonly #disk: string;
  readonly #sectors: number;

  private constructor(guest: TestGuest, disk: string, sectors: number) {
    this.#guest = guest;
    this.#disk = disk;
    this.#sectors = sectors;
  }

  static async create(guest: TestGuest, disk: string): Promise<Mapping> {
    const { stdout } = await guest.run(['blockdev', '--getsize64', disk]);
    const mapping = new Mapping(guest, disk, Number(stdout) / SECTOR_BYTES);
    await mapping.#dmsetup('create', MAPPED, '--table', mapping.#table('works'));
    const named = await guest.run(['dmsetup', 'info', '-c', '--noheadings', '-o', 'blkdevname', MAPPED]);
    mapping.device = `/dev/${named.stdout.trim()}`;
    return mapping;
  }

  async reload(behaviour: DiskBehaviour, flush: boolean): Promise<void> {
    await this.#dmsetup('load', MAPPED, '--table', this.#table(behaviour));
    if (!flush) await this.suspend();
    await this.resume();
  }

  async suspend(): Promise<void> {
    await this.#dmsetup('suspend', '--nolockfs', '--noflush', MAPPED);
  }

  async resume(): Promise<void> {
    await this.#dmsetup('resume', MAPPED);
  }

  #table(behaviour: DiskBehaviour): string {
    const [whole, disk] = [`0 ${this.#sectors}`, this.#disk];
    // Flakey: up for 0 seconds, down for so long that no test sees the end.
    const flakey = (feature: string): string => `${whole} flakey ${disk} 0 0 86400 1 ${feature}`;
    switch (behaviour) {
      case 'works':
        return `${whole} linear ${disk} 0`;
      case 'fails':
        return `${whole} error`;
      case 'fails-writes':
        return flakey('error_writes');
      case 'drops-writes':
        return flakey('drop_writes');
    }
  }

  async #dmsetup(...args: readonly string[]): Promise<void> {
    // Nobody manages devices in the guest, so nobody would answer for udev.
    await this.#guest.run(['dmsetup', ...args, '--noudevsync']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dmsetup('remove', '--retry', MAPPED);
  }
}
