import type { Command } from 'commander';
import { availableParallelism, freemem } from 'node:os';
import { defaultProfile } from '#kernel/profile.ts';
import { defaultJobs } from '#runner/config/jobs.ts';
import type { Config, Options } from '#runner/config/config.ts';
import { resolveConfig } from '#runner/config/config.ts';
import { projectRoot } from '#runner/lib/paths.ts';

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

/** What decides the kernel. */
export function addKernelOptions(command: Command): Command {
  return command
    .option('--profile <name>', `kernel profile (default: ${defaultProfile()})`)
    .option('--series <path>', 'mbox, patch file, directory, or with --tree a git range A..B')
    .option('--tree <dir>', 'a kernel tree of your own; it is never written to')
    .option('--kernel <file>', 'a ready bzImage: nothing is built')
    .option('--config <fragment>', 'config fragment on top of the profile; may be repeated', collect)
    .option('--out <dir>', 'directory for results (default: out/<time>-<profile>)')
    .option(
      '--keep',
      'keep what is otherwise removed: the patched worktree, logs of tests that passed, the machine of `boot`',
    );
}

/** Where in a tree and in a series the kernel is. */
export function addPlaceOptions(command: Command): Command {
  return command
    .option('--patches <n>', 'apply only the first so many patches of the series (0: none)')
    .option('--base <ref>', 'commit of --tree to put the series on');
}

/** What decides the machine. */
export function addMachineOptions(command: Command): Command {
  return addKernelOptions(command)
    .option('--append <args>', 'added to the kernel command line')
    .option('--accel <which>', 'auto, kvm or tcg');
}

/** What decides the tests. */
export function addRunOptions(command: Command): Command {
  return addMachineOptions(command)
    .option('--suite <area>', 'area (folder of suites/) or test file; may be repeated', collect)
    .option('--match <title>', 'test title, * for anything, or an id of a report; may be repeated', collect)
    .option('--jobs <n>', 'machines at the same time (default: from CPUs and free memory)')
    .option('--cold', 'boot every machine instead of restoring a saved one')
    .option('--dump-guest-memory', 'keep the memory of a guest that hangs, for crash(8)')
    .option('--tap', 'TAP on standard output');
}

/** @throws Failure E_USAGE */
export function configOf(options: Options): Config {
  return resolveConfig(options, {
    env: process.env,
    cwd: process.cwd(),
    projectDir: projectRoot,
    defaultProfile: defaultProfile(),
    defaultJobs: defaultJobs(availableParallelism(), freemem() / 2 ** 20),
    now: new Date(),
  });
}
