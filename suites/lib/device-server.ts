import { bytes, concat } from './bytes.ts';
import type { Client } from './client.ts';
import { u32 } from './entry-answer.ts';
import type { TestGuest } from './guest.ts';
import { answerRequest, nextRequest, openBody } from './raw-server.ts';

/** include/uapi/linux/fuse.h */
const [OPEN, RELEASE, IOCTL, CUSE_INIT] = [14, 18, 39, 4096];
/** What a request to read or to write may ask for at most. Bytes. */
export const DEVICE_MOST = 4096;

/** An IOCTL as it came. */
export interface Asked {
  readonly flags: number;
  readonly arg: bigint;
  readonly outSize: number;
  readonly data: Uint8Array;
}

export type Answer = (asked: Asked) => Uint8Array;

/** A character device whose server is in user space (CUSE). */
export class DeviceServer implements AsyncDisposable {
  readonly path: string;
  readonly #client: Client;
  readonly #device: number;

  private constructor(client: Client, device: number, path: string) {
    this.#client = client;
    this.#device = device;
    this.path = path;
  }

  static async start(
    guest: TestGuest,
    { minor = 36, unrestricted = true }: { readonly minor?: number; readonly unrestricted?: boolean } = {},
  ): Promise<DeviceServer> {
    const client = await guest.client();
    const device = await client.open({ path: '/dev/cuse', flags: 'O_RDWR' });
    const name = `fusegate-${client.pid}`;
    const server = new DeviceServer(client, device, `/dev/${name}`);
    // `cuse_init_out`: version, flags, sizes of reads and writes, a device number of the kernel's choice.
    const flags = unrestricted ? 1 : 0;
    const numbers = [7, minor, 0, flags, DEVICE_MOST, DEVICE_MOST, 0, 0, ...Array<number>(10).fill(0)];
    const body = concat(...numbers.map((each) => u32(each)), bytes(`DEVNAME=${name}\0`));
    await server.answer(CUSE_INIT, () => body);
    return server;
  }

  /** The next request, answered. */
  async answer(opcode: number, answer: (args: Uint8Array) => Uint8Array): Promise<void> {
    const request = await nextRequest(this.#client, this.#device);
    if (request.opcode !== opcode) throw new Error(`request ${request.opcode} came, not ${opcode}`);
    const reply = { unique: request.unique, body: answer(request.args) };
    const errno = await answerRequest(this.#client, this.#device, reply);
    if (errno !== 'ok') throw new Error(`the answer to ${opcode} was refused: ${errno}`);
  }

  async open(by: Client): Promise<number> {
    const opened = by.open({ path: this.path, flags: 'O_RDWR' });
    await this.answer(OPEN, () => openBody(1n, 0, 0));
    return opened;
  }

  async close(by: Client, fd: number): Promise<void> {
    const closed = by.close({ fd });
    await this.answer(RELEASE, () => new Uint8Array());
    await closed;
  }

  /** Answers as many IOCTLs as there are answers. @returns what was asked. */
  async serve(answers: readonly Answer[]): Promise<Asked[]> {
    const asked: Asked[] = [];
    for (const answer of answers) {
      await this.answer(IOCTL, (body) => {
        const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
        const [flags, arg] = [view.getUint32(8, true), view.getBigUint64(16, true)];
        const [inSize, outSize] = [view.getUint32(24, true), view.getUint32(28, true)];
        const data = body.slice(32);
        if (data.length !== inSize) throw new Error(`${data.length} bytes came, not ${inSize}`);
        const one = { flags, arg, outSize, data };
        asked.push(one);
        return answer(one);
      });
    }
    return asked;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

/** Ends the test as skipped where there are no such devices. */
export async function needsDevices(guest: TestGuest): Promise<void> {
  await using client = await guest.client();
  guest.needsBuilt((await client.errno.stat({ path: '/dev/cuse' })) === 'ok', 'CUSE');
}
