import { constants, copyFile, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { plainTemporaryDirectory } from '#runner/lib/reaper.ts';
import type { MachineFiles } from './virtme-command.ts';

/** Enough for XFS, which wants 300 MiB. The file has only what the guest has written. */
const SPARE_DISK_BYTES = 512 * 1024 * 1024;

export interface DirectoryContent {
  readonly kernel: KernelImage;
  /** virtme-ng looks for the release in the file itself: it needs a copy, because a link has none. */
  readonly kernelBy: 'copy' | 'link';
  readonly rootDisk: string;
  readonly scratchDisk: string;
}

/** A directory of our own with short names for one machine, given to `stack`. The initramfs is not there yet. */
export async function machineDirectory(
  stack: AsyncDisposableStack,
  content: DirectoryContent,
): Promise<MachineFiles> {
  const dir = await mkdtemp(join(plainTemporaryDirectory(), 'fusegate-'));
  stack.defer(async () => rm(dir, { recursive: true, force: true }));
  const file = (name: string): string => join(dir, name);
  const files: MachineFiles = {
    dir,
    kernel: file('kernel'),
    initramfs: file('initramfs'),
    rootDisk: file('root.ext4'),
    scratchDisk: file('scratch.ext4'),
    spareDisk: file('spare.raw'),
    memory: file('memory'),
    qmp: file('qmp'),
    agent: file('agent'),
    emptyRoot: file('empty'),
    home: file('home'),
  };
  await Promise.all([
    content.kernelBy === 'copy'
      ? copyFile(content.kernel.bzImage, files.kernel, constants.COPYFILE_FICLONE)
      : symlink(resolve(content.kernel.bzImage), files.kernel),
    symlink(resolve(content.rootDisk), files.rootDisk),
    symlink(resolve(content.scratchDisk), files.scratchDisk),
    blankDisk(files.spareDisk),
    mkdir(files.emptyRoot),
    mkdir(files.home),
  ]);
  return files;
}

/**
 * A saved machine has never looked at this disk, so that a copy of it finds its own, as blank, in the same place.
 */
async function blankDisk(path: string): Promise<void> {
  await writeFile(path, '');
  await truncate(path, SPARE_DISK_BYTES);
}
