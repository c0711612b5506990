import type { BigIntStats } from 'node:fs';
import { struct } from '../fuse/reply.ts';

export interface Validity {
  readonly attrValidS: number;
  readonly entryValidS: number;
}

export function keyOf(stat: BigIntStats): string {
  return `${stat.dev}:${stat.ino}`;
}

const SECOND_NS = 1_000_000_000n;

function attrFields(stat: BigIntStats): Record<string, bigint> {
  return {
    ino: stat.ino,
    size: stat.size,
    blocks: stat.blocks,
    atime: stat.atimeNs / SECOND_NS,
    mtime: stat.mtimeNs / SECOND_NS,
    ctime: stat.ctimeNs / SECOND_NS,
    atimensec: stat.atimeNs % SECOND_NS,
    mtimensec: stat.mtimeNs % SECOND_NS,
    ctimensec: stat.ctimeNs % SECOND_NS,
    mode: stat.mode,
    nlink: stat.nlink,
    uid: stat.uid,
    gid: stat.gid,
    rdev: stat.rdev,
    blksize: stat.blksize,
  };
}

export function attrBody(stat: BigIntStats, validity: Validity): Uint8Array {
  const { seconds, nanoseconds } = split(validity.attrValidS);
  return struct('attr', { ...attrFields(stat), attr_valid: seconds, attr_valid_nsec: nanoseconds });
}

export function entryBody(nodeid: number, stat: BigIntStats, validity: Validity): Uint8Array {
  const attr = split(validity.attrValidS);
  const entry = split(validity.entryValidS);
  return struct('entry', {
    ...attrFields(stat),
    nodeid,
    entry_valid: entry.seconds,
    entry_valid_nsec: entry.nanoseconds,
    attr_valid: attr.seconds,
    attr_valid_nsec: attr.nanoseconds,
  });
}

function split(seconds: number): { seconds: number; nanoseconds: number } {
  const whole = Math.floor(seconds);
  return { seconds: whole, nanoseconds: Math.round((seconds - whole) * 1e9) };
}
