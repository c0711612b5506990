import type { LogQuery, LogState, OpenPatch, RequestRecord, RuleAction } from '../../protocol/requests.ts';
import type { InitRecord } from '../../protocol/server-calls.ts';
import { negotiate, ORDINARY_MAX_WRITE } from '../fuse/init.ts';
import { answer, errorAnswer } from '../fuse/reply.ts';
import { RequestLog } from '../fuse/request-log.ts';
import { parseRequest, type Request } from '../fuse/request.ts';
import { RuleBook, type Matchable } from '../fuse/rules.ts';
import { complain } from '../rpc/server.ts';
import { viewOf } from '../sys/bytes.ts';
import { codeOf, type FuseDevice } from '../sys/device.ts';
import type { FileSystem } from './file-system.ts';
import { handlers, type Handler } from './handlers.ts';
import { LockTable } from './locks.ts';
import { describeArguments, describeOpen } from './print.ts';

/** Room for the largest write and its headers. */
const READ_BUFFER_BYTES = ORDINARY_MAX_WRITE + 64 * 1024;

interface Pending {
  readonly seq: number;
  readonly request: Request;
  readonly device: FuseDevice;
}

/** One FUSE connection being served: reads requests, lets the test's rules decide, answers, keeps the log. */
export class Session {
  readonly fs: FileSystem;
  readonly rules = new RuleBook();
  readonly log = new RequestLog();
  readonly held = new Map<number, Pending>();
  /** Resolves when INIT has been answered. */
  readonly initialized = Promise.withResolvers<InitRecord>();
  /** Told when passthrough has been agreed on, before INIT is answered. */
  onNegotiated: (record: InitRecord) => void = () => undefined;
  ended: string | null = null;
  /** SETXATTR_EXT has been agreed on: requests of that kind are longer. */
  #hasSetxattrExt = false;
  readonly #end = Promise.withResolvers<undefined>();
  /** Requests being worked on, held ones apart. */
  readonly #working = new Set<Promise<void>>();
  readonly #locks = new LockTable();
  readonly #startedAt = performance.now();

  constructor(fs: FileSystem) {
    this.fs = fs;
  }

  readFrom(device: FuseDevice): void {
    device.startReading(
      READ_BUFFER_BYTES,
      (bytes) => this.#receive(bytes, device),
      (errno) => {
        this.ended = errno;
        this.#end.resolve(undefined);
      },
    );
  }

  /** Resolves when the connection has ended and no request of it is worked on any more. */
  async over(): Promise<void> {
    await this.#end.promise;
    await Promise.allSettled(this.#working);
  }

  wait(query: LogQuery, state: LogState): Promise<RequestRecord> {
    return this.log.wait(query, state);
  }

  /** Lets a held request go on, as it is or with another action. @returns false when it is not held. */
  async release(seq: number, action: RuleAction): Promise<boolean> {
    const pending = this.held.get(seq);
    if (pending === undefined) return false;
    this.held.delete(seq);
    await this.#act(pending, action);
    return true;
  }

  #receive(bytes: Uint8Array, device: FuseDevice): void {
    const request = parseRequest(bytes, this.#hasSetxattrExt);
    const subject = this.#matchable(request);
    const { unique, nodeid, uid, gid, pid, label: opcode } = request;
    const args = describeArguments(request);
    const arrivedMs = this.#now();
    const base = { opcode, unique, nodeid, path: subject.path, uid, gid, pid, args, arrivedMs };
    const seq = this.log.add(base, subject.childPath);
    const action = this.rules.decide(subject) ?? { do: 'normal' };
    const work = this.#act({ seq, request, device }, action)
      .catch((error: unknown) => {
        complain(`request ${seq} ${opcode}: ${error instanceof Error ? (error.stack ?? '') : String(error)}`);
      })
      .finally(() => this.#working.delete(work));
    this.#working.add(work);
  }

  #matchable(request: Request): Matchable {
    const path = this.fs.inodes.nameOf(request.nodeid) ?? null;
    const named = request.name !== '' && !request.label.includes('XATTR');
    const childPath = named && path !== null ? this.fs.childName(request) : null;
    return { opcode: request.label, path, nodeid: request.nodeid, pid: request.pid, childPath };
  }

  async #act(pending: Pending, action: RuleAction): Promise<void> {
    switch (action.do) {
      case 'hold':
        this.held.set(pending.seq, pending);
        this.log.markHeld(pending.seq);
        break;
      case 'delay':
        await new Promise((resolve) => setTimeout(resolve, action.ms));
        await this.#answerNormally(pending, {});
        break;
      case 'error':
        this.#sendError(pending, action.errno);
        break;
      case 'body':
        this.#sendBody(pending, action.body);
        break;
      case 'raw':
        this.#sendRaw(pending, action.bytes, action.keepUnique === true);
        break;
      case 'open':
        await this.#answerNormally(pending, { open: action.open });
        break;
      case 'patch':
        await this.#answerNormally(pending, { patch: action });
        break;
      case 'work-then-error':
        await this.#answerNormally(pending, { error: action.errno });
        break;
      case 'normal':
        await this.#answerNormally(pending, {});
        break;
    }
  }

  async #answerNormally(pending: Pending, change: AnswerChange): Promise<void> {
    const { request } = pending;
    const name = request.operation?.name;
    if (name === undefined) {
      this.#sendError(pending, 'ENOSYS');
    } else if (name === 'INIT') {
      this.#answerInit(pending, change);
    } else {
      await this.#work(pending, handlers[name], change);
    }
  }

  async #work(pending: Pending, handler: Handler, change: AnswerChange): Promise<void> {
    let body: Uint8Array;
    try {
      const context = { fs: this.fs, locks: this.#locks, patch: change.open };
      body = await handler(pending.request, context);
    } catch (error) {
      this.#sendError(pending, errnoOf(error));
      return;
    }
    if (change.error === undefined) this.#sendBody(pending, patched(body, change.patch));
    else this.#sendError(pending, change.error);
  }

  #answerInit(pending: Pending, change: AnswerChange): void {
    const { init = {}, abi } = this.fs.options;
    const { body, record } = negotiate(pending.request, init, abi);
    this.onNegotiated(record);
    const { flagsOffered, flagsAnswered } = record;
    this.#hasSetxattrExt = [flagsOffered, flagsAnswered].every((flags) => flags.includes('SETXATTR_EXT'));
    this.#sendBody(pending, patched(body, change.patch));
    this.initialized.resolve(record);
  }

  #sendBody(pending: Pending, body: Uint8Array): void {
    const open = describeOpen(pending.request, body);
    this.#send(pending, answer(pending.request.unique, body), null, open);
  }

  #sendError(pending: Pending, errno: string): void {
    this.#send(pending, errorAnswer(pending.request.unique, errno), errno);
  }

  #sendRaw(pending: Pending, raw: Uint8Array, keepUnique: boolean): void {
    const bytes = Uint8Array.from(raw);
    if (!keepUnique && bytes.length >= 16)
      viewOf(bytes).setBigUint64(8, BigInt(pending.request.unique), true);
    this.#send(pending, bytes, null);
  }

  #send(
    { seq, request, device }: Pending,
    bytes: Uint8Array,
    error: string | null,
    open?: ReturnType<typeof describeOpen>,
  ): void {
    const silent =
      request.operation?.reply !== undefined && request.operation.reply !== 'always' && error === null;
    const refused = silent ? null : (device.write(bytes) ?? null);
    const length = silent ? 0 : bytes.length;
    const reply = { error, bytes: length, refused, atMs: this.#now() };
    this.log.markAnswered(seq, open === undefined ? reply : { ...reply, open });
  }

  #now(): number {
    return Math.round((performance.now() - this.#startedAt) * 1000) / 1000;
  }
}

interface AnswerChange {
  readonly open?: OpenPatch | undefined;
  readonly patch?: { readonly at: number; readonly bytes: Uint8Array } | undefined;
  readonly error?: string | undefined;
}

function patched(body: Uint8Array, patch: AnswerChange['patch']): Uint8Array {
  if (patch === undefined) return body;
  const copy = Uint8Array.from(body);
  copy.set(patch.bytes, patch.at);
  return copy;
}

/** What went wrong in the served directory is what the client is told. */
function errnoOf(error: unknown): string {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'string') return error.errno;
  return codeOf(error);
}
