import { closeSync, constants, openSync } from 'node:fs';
import { backingMap, DeviceIoctl, OpenFlag } from '../../protocol/fuse.ts';
import type { PassthroughAbi } from '../../protocol/server-calls.ts';
import type { CallResult } from '../../protocol/syscalls.ts';
import { codeOf, type FuseDevice } from '../sys/device.ts';

/** What to put into the answer of an open so that its file is in passthrough mode. */
export interface OpenGrant {
  readonly openFlags: number;
  readonly backingId: number;
}

/** How one generation of the interface registers a file and ties it to an open. */
export interface PassthroughStrategy {
  /** A file is being opened. `path` is the backing file. */
  grant(nodeid: number, path: string): Promise<CallResult<OpenGrant>>;
  /** A granted open is over. */
  release(nodeid: number): Promise<void>;
  readonly ids: readonly number[];
}

export function passthroughStrategy(abi: PassthroughAbi, device: FuseDevice): PassthroughStrategy {
  switch (abi) {
    case 'backing-id':
      return new BackingIds(device);
    case 'fd':
      return new SingleUseIds(device);
  }
}

/** 6.9 and later: one id per inode, shared by its opens, closed after the last of them. */
class BackingIds implements PassthroughStrategy {
  readonly #device: FuseDevice;
  readonly #byNode = new Map<number, { registered: Promise<CallResult<number>>; opens: number }>();
  readonly #ids = new Set<number>();

  constructor(device: FuseDevice) {
    this.#device = device;
  }

  get ids(): readonly number[] {
    return [...this.#ids];
  }

  async grant(nodeid: number, path: string): Promise<CallResult<OpenGrant>> {
    const entry = this.#byNode.get(nodeid) ?? { registered: registerPath(this.#device, path), opens: 0 };
    this.#byNode.set(nodeid, entry);
    entry.opens += 1;
    const result = await entry.registered;
    if ('errno' in result) {
      if (this.#byNode.get(nodeid) === entry) this.#byNode.delete(nodeid);
      return result;
    }
    this.#ids.add(result.value);
    return { value: { openFlags: OpenFlag.PASSTHROUGH, backingId: result.value } };
  }

  async release(nodeid: number): Promise<void> {
    const entry = this.#byNode.get(nodeid);
    if (entry === undefined) return;
    entry.opens -= 1;
    if (entry.opens > 0) return;
    this.#byNode.delete(nodeid);
    const result = await entry.registered;
    if ('errno' in result) return;
    this.#ids.delete(result.value);
    await closeBacking(this.#device, result.value);
  }
}

/** The 2021 series: every open registers anew and its answer uses the id up; nothing to close. */
class SingleUseIds implements PassthroughStrategy {
  readonly ids: readonly number[] = [];
  readonly #device: FuseDevice;

  constructor(device: FuseDevice) {
    this.#device = device;
  }

  async grant(_nodeid: number, path: string): Promise<CallResult<OpenGrant>> {
    const result = await registerPath(this.#device, path);
    return 'errno' in result ? result : { value: { openFlags: 0, backingId: result.value } };
  }

  release(): Promise<void> {
    return Promise.resolve();
  }
}

/** Opens, registers, closes: the kernel keeps a reference of its own. */
async function registerPath(device: FuseDevice, path: string): Promise<CallResult<number>> {
  let fd: number;
  try {
    fd = openReadWriteOrRead(path);
  } catch (error) {
    return { errno: codeOf(error) };
  }
  try {
    return await registerFd(device, backingMap(fd));
  } finally {
    closeSync(fd);
  }
}

function openReadWriteOrRead(path: string): number {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    if (!['EROFS', 'EACCES', 'EPERM', 'ETXTBSY'].includes(codeOf(error))) throw error;
    return openSync(path, constants.O_RDONLY);
  }
}

/** Both generations use the same request code and the same 16 bytes on a 64-bit machine. */
export async function registerFd(device: FuseDevice, map: Uint8Array): Promise<CallResult<number>> {
  const result = await device.ioctl(DeviceIoctl.BACKING_OPEN, map);
  return 'errno' in result ? result : { value: result.value.ret };
}

export async function closeBacking(device: FuseDevice, id: number): Promise<CallResult<number>> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, id, true);
  const result = await device.ioctl(DeviceIoctl.BACKING_CLOSE, bytes);
  return 'errno' in result ? result : { value: result.value.ret };
}
