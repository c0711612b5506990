import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SPARE_DISK_SERIAL } from '../../protocol/spare-disk.ts';
import { listMounts } from '../sys/mount.ts';
import { syscall } from '../sys/syscall.ts';
import { runProgram } from './run.ts';
import { until } from './until.ts';

const BLOCK_DEVICES = '/sys/block';
/** _IOWR('X', 120, int) of linux/fs.h. */
const FITHAW = 0xc004_5878;

/** It is there from the start, or never. */
let found: string | undefined;

/** Device of the disk that tests may overwrite, or null. Found by its serial number and nothing else. */
export function findSpareDisk(): string | null {
  found ??= blockDevices().find((device) => attribute(device, 'serial') === SPARE_DISK_SERIAL);
  return found === undefined ? null : `/dev/${found}`;
}

/**
 * Lets everybody go on who waits for the spare disk: a suspended device or a frozen filesystem keeps even a
 * killed process.
 */
export async function wakeSpareDisk(): Promise<void> {
  const device = findSpareDisk();
  if (device === null) return;
  for (const name of mappedDevices()) await dmsetup('resume', name);
  const mounts = listMounts().filter(({ source }) => source === device || source.startsWith('/dev/dm-'));
  for (const { mountPoint } of mounts) await thaw(mountPoint);
}

/** Takes down what was left on the spare disk, once nothing is mounted. @returns what it was. */
export async function freeSpareDisk(deadlineMs: number): Promise<string[]> {
  const device = findSpareDisk();
  if (device === null) return [];
  const left = mappedDevices();
  for (const name of left) await dmsetup('remove', '--force', '--retry', name);
  const free = await until(() => isFree(device), deadlineMs);
  return [...left.map((name) => `device-mapper device ${name}`), ...(free ? [] : [`${device} is in use`])];
}

/** The guest has no other devices of the device mapper. */
function mappedDevices(): string[] {
  return blockDevices()
    .filter((name) => name.startsWith('dm-'))
    .map((name) => attribute(name, 'dm/name'))
    .filter((name) => name !== '');
}

async function dmsetup(...args: readonly string[]): Promise<void> {
  // Nobody manages devices here, so nobody would answer for udev.
  await runProgram({ argv: ['dmsetup', ...args, '--noudevsync'], timeoutMs: 10_000 });
}

async function thaw(mountPoint: string): Promise<void> {
  try {
    const fd = openSync(mountPoint, 'r');
    await syscall('ioctl', fd, FITHAW, 0);
    closeSync(fd);
  } catch {
    // A filesystem that cannot even be opened holds nobody back: its calls fail.
  }
}

/** A mounted filesystem and a mapped device own their disk exclusively, also after a lazy umount. */
function isFree(device: string): boolean {
  try {
    closeSync(openSync(device, constants.O_RDONLY | constants.O_EXCL));
    return true;
  } catch {
    return false;
  }
}

function blockDevices(): string[] {
  try {
    return readdirSync(BLOCK_DEVICES);
  } catch {
    return [];
  }
}

function attribute(device: string, name: string): string {
  try {
    return readFileSync(join(BLOCK_DEVICES, device, name), 'utf8').trim();
  } catch {
    return '';
  }
}
