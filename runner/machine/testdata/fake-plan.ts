import type { MachinePlan } from '../virtme-command.ts';

/** A plan of a machine whose directory is `dir` (`/tmp/f`); nothing of it exists. */
export function fakePlan({
  dir = '/tmp/f',
  ...changes
}: Partial<MachinePlan> & { readonly dir?: string } = {}): MachinePlan {
  return {
    id: 'm1',
    accelerator: 'tcg',
    memoryMib: 1024,
    cpus: 1,
    sshPort: 40000,
    scratch: 'throwaway',
    incoming: false,
    memory: 'anonymous',
    append: [],
    files: {
      dir,
      kernel: `${dir}/kernel`,
      initramfs: `${dir}/initramfs`,
      rootDisk: `${dir}/root.ext4`,
      scratchDisk: `${dir}/scratch.ext4`,
      spareDisk: `${dir}/spare.raw`,
      memory: `${dir}/memory`,
      qmp: `${dir}/qmp`,
      agent: `${dir}/agent`,
      emptyRoot: `${dir}/empty`,
      home: `${dir}/home`,
    },
    ...changes,
  };
}
