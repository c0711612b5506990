import { initFlagBits, initFlagNames, type InitFlagName } from '../../protocol/fuse.ts';
import type { InitRecord, InitReply, PassthroughAbi } from '../../protocol/server-calls.ts';
import { viewOf } from '../sys/bytes.ts';
import { struct } from './reply.ts';
import { numberField, type Request } from './request.ts';

/** What an ordinary passthrough server answers. Lock and xattr extensions are off: tests turn on what they need. */
const ORDINARY_FLAGS: readonly InitFlagName[] = [
  'ASYNC_READ',
  'ATOMIC_O_TRUNC',
  'BIG_WRITES',
  'DO_READDIRPLUS',
  'READDIRPLUS_AUTO',
  'PARALLEL_DIROPS',
  'MAX_PAGES',
  'INIT_EXT',
];

const FEATURE: Readonly<Record<PassthroughAbi, InitFlagName>> = {
  'backing-id': 'PASSTHROUGH',
  fd: 'PASSTHROUGH_FD',
};

export const ORDINARY_MAX_WRITE = 1024 * 1024;
/** Protocol version of the numbers in protocol/fuse.ts. */
const OWN_MINOR = 45;
const INIT_EXT = 1n << 30n;

export interface Negotiation {
  readonly body: Uint8Array;
  readonly record: InitRecord;
}

/** The answer to INIT, and what follows from it as far as the kernel keeps its word. */
export function negotiate(
  request: Request,
  reply: InitReply,
  abi: PassthroughAbi = 'backing-id',
): Negotiation {
  const offered = offeredFlags(request);
  const names = answeredNames(reply, [...ORDINARY_FLAGS, FEATURE[abi]]);
  const flags = initFlagBits(names);
  const minor = reply.minor ?? Math.min(OWN_MINOR, numberField(request, 'minor'));
  const maxStackDepth = reply.maxStackDepth ?? 1;
  const body = struct('init', {
    major: reply.major ?? 7,
    minor,
    max_readahead: reply.maxReadahead ?? numberField(request, 'max_readahead'),
    flags: flags & 0xffff_ffffn,
    max_background: reply.maxBackground ?? 0,
    congestion_threshold: reply.congestionThreshold ?? 0,
    max_write: reply.maxWrite ?? ORDINARY_MAX_WRITE,
    time_gran: reply.timeGran ?? 1,
    max_pages: reply.maxPages ?? ORDINARY_MAX_WRITE / 4096,
    flags2: flags >> 32n,
    max_stack_depth: maxStackDepth,
  });
  const record = {
    major: numberField(request, 'major'),
    minor: numberField(request, 'minor'),
    flagsOffered: initFlagNames(offered),
    flagsAnswered: names,
    maxStackDepth,
    passthrough: passthroughAgreed(offered, flags),
  };
  return { body, record };
}

function answeredNames(reply: InitReply, ordinary: readonly InitFlagName[]): InitFlagName[] {
  const names = new Set(reply.flags ?? ordinary);
  for (const name of reply.addFlags ?? []) names.add(name);
  for (const name of reply.dropFlags ?? []) names.delete(name);
  return [...names];
}

/** flags2 is the fifth word, there since 7.36 and marked by INIT_EXT. */
function offeredFlags(request: Request): bigint {
  const low = BigInt(numberField(request, 'flags'));
  if ((low & INIT_EXT) === 0n || request.body.length < 20) return low;
  return low | (BigInt(viewOf(request.body).getUint32(16, true)) << 32n);
}

function passthroughAgreed(offered: bigint, answered: bigint): boolean {
  const wanted = initFlagBits(['PASSTHROUGH', 'PASSTHROUGH_FD']);
  return (answered & INIT_EXT) !== 0n && (offered & answered & wanted) !== 0n;
}
