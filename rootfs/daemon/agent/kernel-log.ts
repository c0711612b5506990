import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import type { KernelLogRecord } from '../../protocol/calls.ts';
import { codeOf } from '../sys/device.ts';

/** Longest record of /dev/kmsg. */
const RECORD_BYTES = 8192;

/** Reads the kernel's log as records from the moment it was opened on. */
export class KernelLog {
  readonly #fd: number;
  readonly #records: KernelLogRecord[] = [];

  constructor() {
    this.#fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
    this.read();
    this.#records.length = 0;
  }

  /** All records with a higher sequence number that the kernel has had so far. */
  read(after = -1): KernelLogRecord[] {
    const buffer = Buffer.alloc(RECORD_BYTES);
    for (;;) {
      try {
        const length = readSync(this.#fd, buffer, 0, buffer.length, null);
        const record = parseKmsg(buffer.toString('utf8', 0, length));
        if (record !== undefined) this.#records.push(record);
      } catch (error) {
        const errno = codeOf(error);
        // EPIPE: records were overwritten before they were read; the next read gives the oldest left.
        if (errno === 'EPIPE' || errno === 'EINTR') continue;
        if (errno === 'EAGAIN') break;
        throw error;
      }
    }
    return this.#records.filter((record) => record.seq > after);
  }

  /** Everything since the last `take`. */
  take(): KernelLogRecord[] {
    const records = this.read();
    this.#records.length = 0;
    return records;
  }
}

/** `priority,sequence,timestamp,flags;text`, then continuation lines with keys, which say nothing of interest. */
export function parseKmsg(line: string): KernelLogRecord | undefined {
  const match = /^(\d+),(\d+),(\d+),[^;]*;([^\n]*)/.exec(line);
  if (match === null) return undefined;
  const [, priority, seq, timeUs, text = ''] = match;
  return { level: Number(priority) & 7, seq: Number(seq), timeUs: Number(timeUs), text };
}

/** Puts a line into the kernel's log, so that a console log can be read by itself. */
export function markKernelLog(text: string): void {
  const fd = openSync('/dev/kmsg', constants.O_WRONLY);
  try {
    writeSync(fd, `<6>fusegate: ${text.replace(/[^\x20-\x7e]/g, '?').slice(0, 800)}\n`);
  } finally {
    closeSync(fd);
  }
}

export function kernelTaint(): number {
  return Number(readFileSync('/proc/sys/kernel/tainted', 'utf8'));
}
