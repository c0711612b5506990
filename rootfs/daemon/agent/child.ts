import { closeSync } from 'node:fs';
import type { ChildOptions, CommonCalls, ExitRecord } from '../../protocol/calls.ts';
import { encodeFrame, frameOf, FrameSplitter, parseMessage, textOf } from '../../protocol/frame.ts';
import { RpcPeer, RpcRefusal } from '../../protocol/peer.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import { describeError } from '../rpc/server.ts';
import { childProcess } from '../sys/child-process.ts';
import { makePipe, PipeReader, PipeWriter } from '../sys/pipe.ts';
import { describeProcess } from './forensics.ts';

export type Role = 'server' | 'client';

/** Last bytes of a child's standard error that are kept to explain its end. */
const COMPLAINT_BYTES = 4096;

/** A request of the host that is passed on as it is, and so is its answer. */
export interface Passed {
  /** As the host numbers its requests: from 1 on. */
  readonly id: number;
  readonly method: string;
  /** JSON of the request. */
  readonly message: string;
  readonly timeoutMs: number;
  readonly write: (frame: Uint8Array) => void;
}

interface Waiting extends Omit<Passed, 'message'> {
  /** As performance.now() counts. */
  readonly dueMs: number;
  /** The host has been told that the answer is late, and gets no other. */
  told: boolean;
}

/** A process of this same bundle in another role, and the line to it. */
export class Child {
  readonly role: Role;
  readonly pid: number;
  readonly exited: Promise<ExitRecord>;
  #alive = true;
  /** Whether it was asked if it is. */
  #up = false;
  /** Something has been done to it that only its end undoes. */
  #spoilt: boolean;
  /** Of our own requests; those that are passed on have the numbers above 0. */
  readonly #peer: RpcPeer;
  readonly #output: PipeWriter;
  readonly #passed = new Map<number, Waiting>();
  /** For the first of them that may be late. Left as it is when an answer comes in time: timers are dear. */
  #timer: NodeJS.Timeout | undefined;
  /** When it goes off, as performance.now() counts. */
  #wakesMs = Infinity;
  #complaint = '';

  constructor(role: Role, { launcher, env }: ChildOptions) {
    this.role = role;
    this.#spoilt = launcher !== undefined || env !== undefined;
    // With the options that this process was started with, which depend on the machine.
    const daemon = [process.execPath, ...process.execArgv, process.argv[1] ?? '', role];
    const [program = process.execPath, ...args] = [...(launcher ?? []), ...daemon];
    const [requests, answers] = [makePipe(), makePipe()];
    const child = childProcess().spawn(program, args, {
      stdio: [requests.readEnd, answers.writeEnd, 'pipe'],
      // A group of its own: what a launcher forks dies with it.
      detached: true,
      env: { ...process.env, UV_THREADPOOL_SIZE: '16', UV_USE_IO_URING: '0', ...env },
    });
    this.pid = child.pid ?? -1;
    for (const end of [requests.readEnd, answers.writeEnd]) closeSync(end);
    const output = new PipeWriter(requests.writeEnd);
    this.#output = output;
    this.#peer = new RpcPeer((frame) => output.write(frame), -1);
    const splitter = new FrameSplitter();
    const input = new PipeReader(
      answers.readEnd,
      (chunk) => {
        try {
          for (const frame of splitter.push(chunk)) this.#receive(frame);
        } catch (error) {
          // It does not speak the protocol: nothing that it says from here on can be trusted.
          this.#complaint = String(error);
          this.kill('SIGKILL');
        }
      },
      () => undefined,
    );
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#complaint = (this.#complaint + chunk.toString('utf8')).slice(-COMPLAINT_BYTES);
    });
    this.exited = new Promise((resolve) => {
      const gone = (record: ExitRecord, why: string): void => {
        if (!this.#alive) return;
        // Its last words may still be in the pipe.
        input.finish();
        closeSync(answers.readEnd);
        output.close();
        this.#gone(record, why, resolve);
      };
      child.on('error', (error) => gone({ code: null, signal: null }, error.message));
      child.on('close', (code, signal) => gone({ code, signal }, ''));
    });
  }

  get alive(): boolean {
    return this.#alive;
  }

  spoil(): void {
    this.#spoilt = true;
  }

  /** Resolves when it answers, when it has ended, or when the time is up: whatever comes next will tell. */
  async up(deadlineMs: number): Promise<void> {
    if (this.#up) return;
    this.#up = true;
    await this.call('up', {}, deadlineMs).catch(() => undefined);
  }

  /** Has the process brought back to how it started. @returns whether it can serve again. */
  async renew(deadlineMs: number): Promise<boolean> {
    if (!this.#alive || this.#spoilt || this.#peer.pending > 0 || this.#passed.size > 0) return false;
    try {
      const { clean } = (await this.call('renew', {}, deadlineMs)) as CommonCalls['renew']['result'];
      return clean;
    } catch (error) {
      if (error instanceof RpcRefusal) return false;
      throw error;
    }
  }

  /** As `call`, for a host that gets the answer as the child has written it. */
  pass({ message, ...request }: Passed): void {
    const dueMs = performance.now() + request.timeoutMs;
    this.#passed.set(request.id, { ...request, dueMs, told: false });
    if (dueMs < this.#wakesMs) this.#wakeAt(dueMs);
    this.#output.write(frameOf(message));
  }

  #receive(frame: Buffer): void {
    const id = idOf(frame);
    if (id === undefined) {
      this.#peer.settle(parseMessage(textOf(frame)) as RpcResponse);
      return;
    }
    const waiting = this.#passed.get(id);
    this.#passed.delete(id);
    if (waiting?.told === false) waiting.write(frame);
  }

  #wakeAt(dueMs: number): void {
    clearTimeout(this.#timer);
    this.#wakesMs = dueMs;
    this.#timer = setTimeout(() => this.#tellLate(), dueMs - performance.now());
  }

  #tellLate(): void {
    const now = performance.now();
    this.#wakesMs = Infinity;
    const waiting = [...this.#passed.values()].filter(({ told }) => !told);
    for (const each of waiting.filter(({ dueMs }) => dueMs <= now)) {
      refuse(each, this.#late(each.method, each.timeoutMs));
    }
    const next = Math.min(...waiting.filter(({ told }) => !told).map(({ dueMs }) => dueMs));
    if (next < Infinity) this.#wakeAt(next);
  }

  #late(method: string, timeoutMs: number): RpcRefusal {
    const where = describeProcess(this.pid);
    return new RpcRefusal(
      'deadline',
      `${this.role} ${this.pid}: no answer to ${method} in ${timeoutMs} ms\n${where}`,
    );
  }

  /**
   * @throws RpcRefusal as the child refused; `child-gone` when it ended; `deadline`, with where the process
   *   stands in the kernel, when the answer took too long. The answer may still come: nobody waits for it then.
   */
  async call(method: string, params: unknown, timeoutMs: number): Promise<unknown> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(this.#late(method, timeoutMs)), timeoutMs);
    try {
      return await Promise.race([this.#peer.call(method, params), late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.#alive || this.pid <= 0) return;
    this.#spoilt = true;
    try {
      process.kill(-this.pid, signal);
    } catch {
      // ESRCH: it ended in this moment; `exited` says how.
    }
  }

  #gone(record: ExitRecord, why: string, resolve: (record: ExitRecord) => void): void {
    this.#alive = false;
    const how = record.signal === null ? `exited ${String(record.code)}` : `was ended by ${record.signal}`;
    const said = [why, this.#complaint.trim()].filter(Boolean).join('; ');
    const text = `${this.role} ${this.pid} ${how}${said === '' ? '' : `: ${said}`}`;
    const reason = new RpcRefusal('child-gone', text);
    this.#peer.close(reason);
    clearTimeout(this.#timer);
    for (const each of this.#passed.values()) if (!each.told) refuse(each, reason);
    this.#passed.clear();
    resolve(record);
  }
}

function refuse(waiting: Waiting, reason: RpcRefusal): void {
  waiting.told = true;
  waiting.write(encodeFrame({ id: waiting.id, error: describeError(reason) }));
}

const ID = /^\{"id":(\d+),/;
/** The id is among the first bytes; it has at most 16 digits. */
const ID_BYTES = 24;

/** The number of an answer to a request of the host, if it is one. */
function idOf(frame: Buffer): number | undefined {
  const match = ID.exec(frame.toString('latin1', 4, 4 + ID_BYTES));
  return match === null ? undefined : Number(match[1]);
}
