import { openSync, writeSync, closeSync } from 'node:fs';
import { constants } from 'node:os';
import { errnoName } from '../../protocol/errno.ts';
import { DeviceIoctl } from '../../protocol/fuse.ts';
import type { CallResult } from '../../protocol/syscalls.ts';
import { addressOf, pollReadable, readerInto, type PollHandle } from './ffi.ts';
import { syscall, syscallSync } from './syscall.ts';
import type { IoctlArgument } from '../../protocol/server-calls.ts';

const { EAGAIN } = constants.errno;
/** Not mapped in any process: the first page. */
const BAD_POINTER = 16n;

/** A descriptor of /dev/fuse. Reading is event-driven: no thread ever sleeps in read(2), so the process can always end. */
export class FuseDevice {
  readonly fd: number;
  #poll: PollHandle | undefined;

  constructor() {
    this.fd = openSync('/dev/fuse', 'r+');
  }

  /**
   * Gives every request to `receive` until the connection ends, then its errno to `ended`. Call after mount:
   * an unattached device polls as an error.
   */
  startReading(
    bufferBytes: number,
    receive: (bytes: Uint8Array) => void,
    ended: (errno: string) => void,
  ): void {
    const buffer = Buffer.allocUnsafeSlow(bufferBytes);
    const read = readerInto(buffer);
    this.#poll = pollReadable(this.fd, () => {
      const errno = drain(
        () => read(this.fd),
        (length) => receive(Uint8Array.from(buffer.subarray(0, length))),
      );
      if (errno === undefined) return;
      this.stopReading();
      ended(errno);
    });
  }

  stopReading(): void {
    this.#poll?.close();
    this.#poll = undefined;
  }

  /** @returns errno name when the kernel refused the bytes. */
  write(bytes: Uint8Array): string | undefined {
    try {
      writeSync(this.fd, bytes);
      return undefined;
    } catch (error) {
      return codeOf(error);
    }
  }

  /** Runs on the pool: registering a file may have to wait for the filesystem it is on. */
  async ioctl(
    request: number,
    arg: IoctlArgument,
  ): Promise<CallResult<{ ret: number; arg: Uint8Array | null }>> {
    const bytes = arg instanceof Uint8Array ? Uint8Array.from(arg) : null;
    const pointer = bytes === null ? (arg === 'null' ? 0n : BAD_POINTER) : addressOf(bytes);
    const result = await syscall('ioctl', this.fd, request, pointer, bytes);
    return 'errno' in result ? result : { value: { ret: result.value, arg: bytes } };
  }

  /** Attaches this fresh descriptor to the connection of another. */
  cloneFrom(other: FuseDevice): CallResult<number> {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, other.fd, true);
    return syscallSync('ioctl', this.fd, DeviceIoctl.CLONE, bytes);
  }

  close(): void {
    this.stopReading();
    closeSync(this.fd);
  }
}

/**
 * Reads all that is there, before whatever else this process has been asked meanwhile.
 * @returns undefined when the queue is empty, else why reading is over.
 */
function drain(read: () => number, receive: (length: number) => void): string | undefined {
  for (;;) {
    const length = read();
    if (length > 0) {
      receive(length);
      continue;
    }
    if (length === -EAGAIN) return undefined;
    const errno = length === 0 ? 'ENODEV' : errnoName(-length);
    // ENOENT: the request was taken back while it was being copied; EINTR: nothing happened.
    if (errno !== 'ENOENT' && errno !== 'EINTR') return errno;
  }
}

export function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  throw error;
}
