import { prepareKernel } from '#kernel/prepare-kernel.ts';
import { buildRootfs } from '#rootfs/image/build-rootfs.ts';
import { bundleDaemon } from '#runner/guest/bundle.ts';
import { deployDaemon } from '#runner/guest/deploy.ts';
import { probeAccelerator } from '#runner/machine/accelerator.ts';
import { bootMachine } from '#runner/machine/boot-machine.ts';
import type { RunParts } from '#runner/run/parts.ts';

/** What a run is really put together from. */
export const realParts: RunParts = {
  prepareKernel,
  buildRootfs,
  probeAccelerator,
  bootMachine: ({ name, kernel, rootfs, accelerator, append, out }, context) =>
    bootMachine({
      id: name,
      kernel,
      rootfs,
      accelerator,
      runDir: out,
      append: append.split(/\s+/).filter((word) => word !== ''),
      ...context,
    }),
  bundleDaemon,
  deployDaemon,
};
