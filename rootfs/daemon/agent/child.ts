import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import type { ChildOptions, CommonCalls, ExitRecord } from '../../protocol/calls.ts';
import { RpcPeer, RpcRefusal } from '../../protocol/peer.ts';
import { makePipe, PipeReader, PipeWriter } from '../sys/pipe.ts';
import { describeProcess } from './forensics.ts';

export type Role = 'server' | 'client';

/** Last bytes of a child's standard error that are kept to explain its end. */
const COMPLAINT_BYTES = 4096;

/** A process of this same bundle in another role, and the line to it. */
export class Child {
  readonly role: Role;
  readonly pid: number;
  readonly exited: Promise<ExitRecord>;
  #alive = true;
  #used = false;
  /** Something has been done to it that only its end undoes. */
  #spoilt: boolean;
  readonly #peer: RpcPeer;
  #complaint = '';

  constructor(role: Role, { launcher, env }: ChildOptions) {
    this.role = role;
    this.#spoilt = launcher !== undefined || env !== undefined;
    // With the options that this process was started with, which depend on the machine.
    const daemon = [process.execPath, ...process.execArgv, process.argv[1] ?? '', role];
    const [program = process.execPath, ...args] = [...(launcher ?? []), ...daemon];
    const [requests, answers] = [makePipe(), makePipe()];
    const child = spawn(program, args, {
      stdio: [requests.readEnd, answers.writeEnd, 'pipe'],
      // A group of its own: what a launcher forks dies with it.
      detached: true,
      env: { ...process.env, UV_THREADPOOL_SIZE: '16', UV_USE_IO_URING: '0', ...env },
    });
    this.pid = child.pid ?? -1;
    for (const end of [requests.readEnd, answers.writeEnd]) closeSync(end);
    const output = new PipeWriter(requests.writeEnd);
    this.#peer = new RpcPeer((frame) => output.write(frame));
    const input = new PipeReader(
      answers.readEnd,
      (chunk) => this.#peer.receive(chunk),
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

  /** Has the process brought back to how it started. @returns whether it can serve again. */
  async renew(deadlineMs: number): Promise<boolean> {
    if (!this.#alive || this.#spoilt || this.#peer.pending > 0) return false;
    if (!this.#used) return true;
    try {
      const { clean } = (await this.call('renew', {}, deadlineMs)) as CommonCalls['renew']['result'];
      return clean;
    } catch (error) {
      if (error instanceof RpcRefusal) return false;
      throw error;
    }
  }

  /**
   * @throws RpcRefusal as the child refused; `child-gone` when it ended; `deadline`, with where the process
   *   stands in the kernel, when the answer took too long. The answer may still come: nobody waits for it then.
   */
  async call(method: string, params: unknown, timeoutMs: number): Promise<unknown> {
    this.#used = true;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const where = describeProcess(this.pid);
      late.reject(
        new RpcRefusal(
          'deadline',
          `${this.role} ${this.pid}: no answer to ${method} in ${timeoutMs} ms\n${where}`,
        ),
      );
    }, timeoutMs);
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
    this.#peer.close(new RpcRefusal('child-gone', text));
    resolve(record);
  }
}
