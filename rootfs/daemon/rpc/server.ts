import { constants, openSync, writeSync } from 'node:fs';
import { encodeFrame, FrameSplitter, parseMessage, textOf } from '../../protocol/frame.ts';
import { RpcRefusal } from '../../protocol/peer.ts';
import type { RpcError, RpcRequest, RpcResponse } from '../../protocol/rpc.ts';
import { PipeReader, PipeWriter } from '../sys/pipe.ts';
import { syscallSync, valueOf } from '../sys/syscall.ts';

const STDIN = 0;
const STDOUT = 1;

/** Answers requests; throws RpcRefusal to refuse one. */
export type RpcHandler = (params: never) => unknown;
export type RpcHandlers = Readonly<Record<string, RpcHandler>>;

/**
 * Answers the frames of stdin on stdout, many at a time; the end of stdin ends the process. Standard output
 * is taken away from everything else: a stray line in it would tear the stream.
 */
export function serveStdio(handlers: RpcHandlers, onEnd: () => void, pass?: RpcPass): void {
  const output = new PipeWriter(STDOUT);
  new PipeReader(
    STDIN,
    answering(handlers, (frame) => output.write(frame), pass),
    onEnd,
  );
}

/** Takes the text of a request, and says whether it sees to the answer itself: a frame for `write`. */
export type RpcPass = (text: string, write: (frame: Uint8Array) => void) => boolean;

/** Takes bytes as they come, and gives the answer to each request that is complete, when it has it. */
function answering(
  handlers: RpcHandlers,
  write: (frame: Uint8Array) => void,
  pass?: RpcPass,
): (chunk: Uint8Array) => void {
  const splitter = new FrameSplitter();
  const reply = (response: RpcResponse): void => write(encodeFrame(response));
  return (chunk) => {
    for (const frame of splitter.push(chunk)) {
      const text = textOf(frame);
      if (pass?.(text, write) !== true) void answer(handlers, parseMessage(text) as RpcRequest).then(reply);
    }
  };
}

/**
 * The same on a virtio-serial port, for as long as the machine runs. Only one process can have it open, and
 * libuv watches a descriptor for one thing: a second number of it is for writing.
 */
export function servePort(path: string, handlers: RpcHandlers, onEnd: () => void, pass?: RpcPass): void {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const output = new PipeWriter(valueOf('dup', syscallSync('dup', fd)));
  // Nothing read: the host has closed its end.
  new PipeReader(
    fd,
    answering(handlers, (frame) => output.write(frame), pass),
    onEnd,
  );
}

async function answer(handlers: RpcHandlers, request: RpcRequest): Promise<RpcResponse> {
  try {
    const handler = Object.hasOwn(handlers, request.method) ? handlers[request.method] : undefined;
    if (handler === undefined) {
      throw new RpcRefusal('unknown-method', `there is no method ${request.method}`);
    }
    const result: unknown = await handler((request.params ?? {}) as never);
    return { id: request.id, result: result ?? null };
  } catch (error) {
    return { id: request.id, error: describeError(error) };
  }
}

export function describeError(error: unknown): RpcError {
  if (error instanceof RpcRefusal) return { code: error.code, message: error.message };
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'string') {
    return { code: error.errno, message: error.message };
  }
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return { code: error.code, message: error.message };
  }
  return {
    code: 'internal',
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}

/** A line for whoever keeps this process's standard error. */
export function complain(text: string): void {
  writeSync(2, `${text}\n`);
}
