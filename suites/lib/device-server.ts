import { bytes, concat } from './bytes.ts';
import type { Client } from './client.ts';
import { u32 } from './entry-answer.ts';
import { eventually } from './eventually.ts';
import type { TestGuest } from './guest.ts';
import { answerRequest, nextRequest, openBody, type RawRequest } from './raw-server.ts';

/** include/uapi/linux/fuse.h */
const [OPEN, RELEASE, IOCTL, CUSE_INIT] = [14, 18, 39, 4096];
/** What a request to read or to write may ask for at most. Bytes. */
export const DEVICE_MOST = 4096;

/** An IOCTL as it came. */
export interface Asked {
  readonly fh: bigint;
  readonly command: number;
  readonly inSize: number;
  readonly flags: number;
  readonly arg: bigint;
  readonly outSize: number;
  readonly data: Uint8Array;
}

/** Reads `fuse_ioctl_in` and what comes behind it. */
export function askedBy(body: Uint8Array): Asked {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return {
    fh: view.getBigUint64(0, true),
    flags: view.getUint32(8, true),
    command: view.getUint32(12, true),
    arg: view.getBigUint64(16, true),
    inSize: view.getUint32(24, true),
    outSize: view.getUint32(28, true),
    data: body.slice(32),
  };
}

export type Answer = (asked: Asked) => Uint8Array;

/** What the server of a device answers to CUSE_INIT. */
export interface DeviceOptions {
  /** Version of the protocol. */
  readonly major?: number;
  readonly minor?: number;
  readonly unrestricted?: boolean;
  /** What a request may ask for at most. Bytes. */
  readonly maxRead?: number;
  readonly maxWrite?: number;
  /** Of the device. The kernel chooses one where the first is 0. */
  readonly number?: readonly [major: number, minor: number];
  readonly name?: string;
  /** What is said of the device: each `KEY=value` with a NUL behind it. By default its name. */
  readonly info?: string;
}

/** A character device whose server is in user space (CUSE). */
export class DeviceServer implements AsyncDisposable {
  readonly name: string;
  readonly path: string;
  readonly #client: Client;
  readonly #device: number;

  private constructor(client: Client, device: number, name: string) {
    this.#client = client;
    this.#device = device;
    this.name = name;
    this.path = `/dev/${name}`;
  }

  /** A server that has not answered CUSE_INIT. */
  static async open(guest: TestGuest, name?: string): Promise<DeviceServer> {
    return DeviceServer.by(await guest.client(), name);
  }

  /** The same in a process that may be the server of others, too. */
  static async by(client: Client, name?: string): Promise<DeviceServer> {
    const device = await client.open({ path: '/dev/cuse', flags: 'O_RDWR' });
    return new DeviceServer(client, device, name ?? `fusegate-${client.pid}`);
  }

  static async start(guest: TestGuest, options: DeviceOptions = {}): Promise<DeviceServer> {
    const server = await DeviceServer.open(guest, options.name);
    const { errno } = await server.begin(options);
    if (errno !== 'ok') throw new Error(`the answer to CUSE_INIT was refused: ${errno}`);
    return server;
  }

  /** Answers CUSE_INIT. @returns what it asked, and what was said of the answer. */
  async begin({
    major = 7,
    minor = 36,
    unrestricted = true,
    maxRead = DEVICE_MOST,
    maxWrite = DEVICE_MOST,
    number = [0, 0],
    info = `DEVNAME=${this.name}\0`,
  }: DeviceOptions = {}): Promise<{ readonly asked: Uint8Array; readonly errno: string }> {
    const { unique, args } = await this.take(CUSE_INIT);
    // `cuse_init_out`
    const flags = unrestricted ? 1 : 0;
    const numbers = [major, minor, 0, flags, maxRead, maxWrite, ...number, ...Array<number>(10).fill(0)];
    const body = concat(...numbers.map((each) => u32(each)), bytes(info));
    return { asked: args, errno: await answerRequest(this.#client, this.#device, { unique, body }) };
  }

  /** What the server is told that reads its next request, where it cannot. */
  async readErrno(): Promise<string> {
    const fd = this.#device;
    await this.#client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_NONBLOCK' });
    const errno = await this.#client.errno.read({ fd, count: 2 ** 21 });
    await this.#client.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
    return errno;
  }

  /** Whether a request waits to be read. */
  async isAsked(): Promise<boolean> {
    return (await this.#client.poll({ fd: this.#device })) === 'in|out';
  }

  /** What a call gives, unless the server is asked before that. */
  async unlessAsked<T>(call: Promise<T>): Promise<T | 'the server is asked'> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    call.then(settle, settle);
    const asked = await eventually(
      async () => !settled && (await this.isAsked()),
      (is) => is || settled,
    );
    return asked ? 'the server is asked' : call;
  }

  /** Closes the channel, with which the device ends. */
  async end(): Promise<void> {
    await this.#client.close({ fd: this.#device });
  }

  /** The next request, which nobody has answered. */
  async take(opcode: number): Promise<RawRequest> {
    const asked = await eventually(
      () => this.isAsked(),
      (is) => is,
    );
    if (!asked) throw new Error(`the server of the device is not asked for ${opcode}`);
    const request = await nextRequest(this.#client, this.#device);
    if (request.opcode !== opcode) throw new Error(`request ${request.opcode} came, not ${opcode}`);
    return request;
  }

  /** The next request, answered. */
  async answer(opcode: number, answer: (args: Uint8Array) => Uint8Array): Promise<void> {
    const request = await this.take(opcode);
    const reply = { unique: request.unique, body: answer(request.args) };
    const errno = await answerRequest(this.#client, this.#device, reply);
    if (errno !== 'ok') throw new Error(`the answer to ${opcode} was refused: ${errno}`);
  }

  /** The next request, answered with an error: negative, as on the wire. */
  async refuse(error: number): Promise<void> {
    const { unique } = await nextRequest(this.#client, this.#device);
    const errno = await answerRequest(this.#client, this.#device, { unique, error });
    if (errno !== 'ok') throw new Error(`the answer was refused: ${errno}`);
  }

  /** Tells the kernel something by itself: a FUSE_NOTIFY_*. @returns `ok` or the errno of the write. */
  notify(code: number, body: Uint8Array): Promise<string> {
    return answerRequest(this.#client, this.#device, { unique: 0n, error: code, body });
  }

  /** @returns the descriptor. `told`: gets what the server is asked. */
  async open(
    by: Client,
    flags = 'O_RDWR',
    told: (args: Uint8Array) => void = () => undefined,
  ): Promise<number> {
    const opened = by.open({ path: this.path, flags });
    await this.answer(OPEN, (args) => {
      told(args);
      return openBody(1n, 0, 0);
    });
    return opened;
  }

  async close(by: Client, fd: number, told: (args: Uint8Array) => void = () => undefined): Promise<void> {
    const closed = by.close({ fd });
    await this.answer(RELEASE, (args) => {
      told(args);
      return new Uint8Array();
    });
    await closed;
  }

  /** Answers as many IOCTLs as there are answers. @returns what was asked. */
  async serve(answers: readonly Answer[]): Promise<Asked[]> {
    const asked: Asked[] = [];
    for (const answer of answers) {
      await this.answer(IOCTL, (body) => {
        const one = askedBy(body);
        const { data, inSize } = one;
        if (data.length !== inSize) throw new Error(`${data.length} bytes came, not ${inSize}`);
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
