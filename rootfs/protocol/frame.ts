import { MAX_FRAME_BYTES } from './rpc.ts';

/**
 * One message on the wire: a 32-bit big-endian byte count, then that many bytes of UTF-8 JSON.
 * A `Uint8Array` inside a message travels as `{"$bytes": "<base64>"}` and comes out as a `Uint8Array` again.
 */
export function encodeFrame(message: unknown): Uint8Array {
  return frameOf(JSON.stringify(message, hasBytes(message) ? packBytes : undefined));
}

/** @param text JSON of one message. */
export function frameOf(text: string): Uint8Array {
  const length = Buffer.byteLength(text);
  if (length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} bytes is too large to send`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  frame.writeUInt32BE(length, 0);
  frame.write(text, HEADER_BYTES);
  return frame;
}

const HEADER_BYTES = 4;
const BYTES_KEY = '"$bytes"';

/** The peer does not speak the protocol; nothing after it on the same stream can be trusted. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** Cuts a byte stream into frames, however it was chunked on the way. Keeps the chunks, and gives parts of them. */
export class FrameSplitter {
  #chunks: Uint8Array[] = [];
  #buffered = 0;

  /**
   * @returns the frames that are complete with this chunk, in order, each with its byte count.
   * @throws FrameError for a frame that is too large.
   */
  push(chunk: Uint8Array): readonly Buffer[] {
    // Nearly always a chunk is one frame.
    if (this.#buffered === 0 && chunk.length > HEADER_BYTES) {
      const whole = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
      if (whole.readUInt32BE(0) === whole.length - HEADER_BYTES) return [whole];
    }
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const frames: Buffer[] = [];
    for (let frame = this.#take(); frame !== undefined; frame = this.#take()) frames.push(frame);
    return frames;
  }

  #take(): Buffer | undefined {
    if (this.#buffered < HEADER_BYTES) return undefined;
    const length = this.#joinFirst(HEADER_BYTES).readUInt32BE(0);
    if (length > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${length} bytes was announced`);
    const bytes = HEADER_BYTES + length;
    if (this.#buffered < bytes) return undefined;
    const all = this.#joinFirst(bytes);
    const rest = all.subarray(bytes);
    this.#chunks = [...(rest.length === 0 ? [] : [rest]), ...this.#chunks.slice(1)];
    this.#buffered -= bytes;
    return all.subarray(0, bytes);
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

/** Cuts a byte stream into messages. */
export class FrameDecoder {
  readonly #splitter = new FrameSplitter();

  /**
   * @returns the messages that are complete with this chunk, in order.
   * @throws FrameError for a frame that is too large or not JSON.
   */
  push(chunk: Uint8Array): unknown[] {
    return this.#splitter.push(chunk).map((frame) => parseMessage(textOf(frame)));
  }
}

/** The JSON of a frame. */
export function textOf(frame: Buffer): string {
  return frame.toString('utf8', HEADER_BYTES);
}

/** @throws FrameError for what is not JSON. */
export function parseMessage(text: string): unknown {
  try {
    // Looking at every value takes much longer than all the rest, and most messages have no bytes.
    return JSON.parse(text, text.includes(BYTES_KEY) ? unpackBytes : undefined) as unknown;
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
