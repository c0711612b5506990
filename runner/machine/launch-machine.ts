import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { AgentPort } from './agent-port.ts';
import { ConsoleLog } from './console-log.ts';
import { MachineProcess } from './machine-process.ts';
import { MachineWatch } from './machine-watch.ts';
import type { Accelerator, Machine } from './machine.ts';
import { QEMU } from './qemu.ts';
import { copyArguments, type QemuCommand } from './qemu-command.ts';
import { QmpChannel } from './qmp.ts';
import type { Timeouts } from './timeouts.ts';
import { AGENT_DEVICE, virtmeArguments, type MachinePlan } from './virtme-command.ts';
import type { Virtme } from './virtme.ts';

/** The program that is started for a machine: virtme-ng, which then starts QEMU, or QEMU itself. */
export interface Starter {
  readonly name: 'virtme-ng' | 'QEMU';
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Pure. */
export function byVirtme({ program, env }: Virtme, plan: MachinePlan): Starter {
  return { name: 'virtme-ng', program, args: virtmeArguments(plan), env };
}

/** Pure. As virtme-ng has started QEMU before, without asking it again. */
export function byCommand(command: QemuCommand, plan: MachinePlan): Starter {
  return { name: 'QEMU', program: command.program, args: copyArguments(command, plan), env: {} };
}

export interface LaunchRequest {
  readonly id: string;
  readonly accelerator: Accelerator;
  /** The logs go to `<runDir>/<id>/` and stay. */
  readonly runDir: string;
  readonly plan: MachinePlan;
  readonly starter: Starter;
  readonly timeouts: Timeouts;
  readonly emit: Emit;
}

/** QEMU running, with every line to it. Disposing stops it and what started it. */
export interface LaunchedMachine extends AsyncDisposable {
  readonly plan: MachinePlan;
  readonly watch: MachineWatch;
  readonly qmp: QmpChannel;
  readonly port: AgentPort;
  readonly console: ConsoleLog;
  readonly consolePath: string;
  /** With what QEMU itself was started; undefined when it is not found. */
  readonly commandLine: () => Promise<readonly string[] | undefined>;
  /** Presses keys on the guest's serial console. */
  readonly type: (text: string) => void;
}

/** What virtme-ng calls the other end of the guest's serial port in QEMU. */
const CONSOLE_CHARDEV = 'console';

/** Starts it; what the guest then does is the caller's to wait for. Says `machine-booting`. */
export async function launchMachine(request: LaunchRequest): Promise<LaunchedMachine> {
  await using stack = new AsyncDisposableStack();
  const { id, accelerator, plan, starter, timeouts } = request;
  const logs = resolve(request.runDir, id);
  await mkdir(logs, { recursive: true });
  const consolePath = join(logs, 'console.log');
  const errorPath = join(logs, 'qemu.log');
  const watch = new MachineWatch({
    accelerator,
    lastWordsMs: timeouts.lastWordsMs,
    restored: plan.incoming,
    starter: starter.name,
    evidence: [
      { label: 'console', path: consolePath },
      { label: 'QEMU log', path: errorPath },
    ],
  });
  const qmp = stack.use(await QmpChannel.listen(plan.files.qmp));
  const port = stack.use(await AgentPort.listen(plan.files.agent));
  qmp.onPortClosed(AGENT_DEVICE, () => port.hangUp());
  request.emit({
    type: 'machine-booting',
    machine: id,
    accelerator,
    console: consolePath,
    restored: plan.incoming,
  });
  const process = await MachineProcess.launch({
    program: starter.program,
    args: starter.args,
    cwd: plan.files.dir,
    env: {
      ...starter.env,
      HOME: plan.files.home,
      TMPDIR: plan.files.dir,
      // Tells whose it is when somebody finds it.
      FUSEGATE_MACHINE: id,
    },
    consolePath,
    errorPath,
  });
  const onNote = (text: string): void => request.emit({ type: 'note', text: `${id}: ${text}` });
  const console = stack.use(await ConsoleLog.follow(consolePath, { onLine: watch.onLine, onNote }));
  stack.defer(async () => {
    watch.close(new Failure('E_MACHINE_STOPPED', 'infra', `the machine ${id} has been stopped`));
    await process.stop(qmp, timeouts.stopMs);
  });
  watch.observe(process, qmp, async () => console.drain());
  const held = stack.move();
  return {
    plan,
    watch,
    qmp,
    port,
    console,
    consolePath,
    commandLine: async () => process.commandLine(QEMU),
    type: (text) => process.type(text),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

/** What every running machine can be asked, however it was started. */
export function machineOf(
  {
    id,
    kernel,
    accelerator,
  }: { readonly id: string; readonly kernel: KernelImage; readonly accelerator: Accelerator },
  { watch, qmp, console, consolePath, type }: LaunchedMachine,
  bootMs: number,
): Omit<Machine, typeof Symbol.asyncDispose> {
  return {
    id,
    kernel,
    accelerator,
    consolePath,
    bootMs,
    lost: watch.lost,
    consoleOffset: async () => {
      await console.drain();
      return console.offset;
    },
    consoleSince: async (offset) => console.since(offset),
    examine: async (timeoutMs) => qmp.describe(timeoutMs),
    dumpMemory: async (path, timeoutMs) => {
      await mkdir(dirname(path), { recursive: true });
      await qmp.dumpMemory(path, timeoutMs);
    },
    sysrq: async (key) => {
      await qmp.execute('chardev-send-break', { id: CONSOLE_CHARDEV });
      type(key);
    },
  };
}
