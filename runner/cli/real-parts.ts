import { prepareKernel } from '#kernel/prepare-kernel.ts';
import { buildRootfs } from '#rootfs/image/build-rootfs.ts';
import { bundleDaemon } from '#runner/guest/bundle.ts';
import { deployDaemon } from '#runner/guest/deploy.ts';
import { probeAccelerator } from '#runner/machine/accelerator.ts';
import { bootMachine, kernelWords } from '#runner/machine/boot-machine.ts';
import { machineTimeouts } from '#runner/machine/timeouts.ts';
import { findVirtme } from '#runner/machine/virtme.ts';
import { machineStates } from '#runner/state/machine-states.ts';
import type { RunParts } from '#runner/run/parts.ts';

/** What a run is really put together from. */
export const realParts: RunParts = {
  prepareKernel,
  buildRootfs,
  probeAccelerator: async (wanted, context) => {
    // What starts the machines is looked for together with what runs them, before a kernel is built.
    await findVirtme(context.signal);
    return probeAccelerator(wanted, context);
  },
  bootMachine: ({ name, kernel, rootfs, accelerator, needs, append, out }, context) =>
    bootMachine({
      id: name,
      kernel,
      rootfs,
      accelerator,
      runDir: out,
      memoryMib: needs.memoryMib,
      timeouts: machineTimeouts(accelerator, needs.slowdown),
      append: kernelWords(append),
      ...context,
    }),
  bundleDaemon,
  deployDaemon,
  states: machineStates,
};
