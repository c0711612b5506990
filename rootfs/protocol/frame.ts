import { MAX_FRAME_BYTES } from './rpc.ts';

/**
 * One message on the wire: a 32-bit big-endian byte count, then that many bytes of UTF-8 JSON.
 * A `Uint8Array` inside a message travels as `{"$bytes": "<base64>"}` and comes out as a `Uint8Array` again.
 */
export function encodeFrame(message: unknown): Uint8Array {
  const text = JSON.stringify(message, hasBytes(message) ? packBytes : undefined);
  const length = Buffer.byteLength(text);
  if (length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} bytes is too large to send`);
  const frame = Buffer.allocUnsafe(4 + length);
  frame.writeUInt32BE(length, 0);
  frame.write(text, 4);
  return frame;
}

const BYTES_KEY = '"$bytes"';

/** The peer does not speak the protocol; nothing after it on the same stream can be trusted. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** Cuts a byte stream into messages, however it was chunked on the way. */
export class FrameDecoder {
  #chunks: Uint8Array[] = [];
  #buffered = 0;

  /**
   * @returns the messages that are complete with this chunk, in order.
   * @throws FrameError for a frame that is too large or not JSON.
   */
  push(chunk: Uint8Array): unknown[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const messages: unknown[] = [];
    for (let body = this.#take(); body !== undefined; body = this.#take()) messages.push(parse(body));
    return messages;
  }

  #take(): Buffer | undefined {
    if (this.#buffered < 4) return undefined;
    const length = this.#joinFirst(4).readUInt32BE(0);
    if (length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} bytes was announced`);
    if (this.#buffered < 4 + length) return undefined;
    const all = this.#joinFirst(4 + length);
    const rest = all.subarray(4 + length);
    this.#chunks = [...(rest.length === 0 ? [] : [rest]), ...this.#chunks.slice(1)];
    this.#buffered -= 4 + length;
    return all.subarray(4, 4 + length);
  }

  /** Makes the first chunk hold at least `count` bytes: joins no more chunks than that needs. */
  #joinFirst(count: number): Buffer {
    let have = 0;
    let used = 0;
    while (have < count) have += this.#chunks[used++]?.length ?? 0;
    const first = Buffer.concat(this.#chunks.slice(0, used));
    this.#chunks = [first, ...this.#chunks.slice(used)];
    return first;
  }
}

function parse(body: Buffer): unknown {
  try {
    // Looking at every value takes much longer than all the rest, and most messages have no bytes.
    const unpack = body.includes(BYTES_KEY) ? unpackBytes : undefined;
    return JSON.parse(body.toString('utf8'), unpack) as unknown;
  } catch (error) {
    throw new FrameError('a frame does not hold JSON', { cause: error });
  }
}

function hasBytes(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (value instanceof Uint8Array) return true;
  return Object.values(value).some(hasBytes);
}

function packBytes(this: unknown, key: string, value: unknown): unknown {
  // Buffer has a toJSON of its own, which has already run on `value`; the holder still has the bytes.
  const original = (this as Record<string, unknown>)[key];
  if (!(original instanceof Uint8Array)) return value;
  const bytes = Buffer.from(original.buffer, original.byteOffset, original.byteLength);
  return { $bytes: bytes.toString('base64') };
}

function unpackBytes(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('$bytes' in value)) return value;
  return typeof value.$bytes === 'string' ? new Uint8Array(Buffer.from(value.$bytes, 'base64')) : value;
}
