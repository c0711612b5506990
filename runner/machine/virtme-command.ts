import { SPARE_DISK_SERIAL } from '#rootfs/protocol/spare-disk.ts';
import type { Accelerator } from './machine.ts';

/** Files of one machine. Their directory's name is our own and has no character special to shells or QEMU. */
export interface MachineFiles {
  /** Temporary directory of this machine, removed with it. */
  readonly dir: string;
  /** Kernel, disks and keys, by names that are safe to put into a command line. */
  readonly kernel: string;
  readonly initramfs: string;
  readonly rootDisk: string;
  readonly scratchDisk: string;
  /** A disk without content that tests format, break and fill; thrown away with the machine. */
  readonly spareDisk: string;
  /** The guest's memory, where it is a file. */
  readonly memory: string;
  /** Unix socket on which we wait for QEMU to connect its control channel. */
  readonly qmp: string;
  /** Unix socket on which we wait for QEMU to connect the agent's port. */
  readonly agent: string;
  /** Empty directory: what virtme-ng exports instead of this machine's root. Nobody mounts it. */
  readonly emptyRoot: string;
  /** HOME of virtme-ng, so that machines share neither settings nor keys. */
  readonly home: string;
}

export interface MachinePlan {
  readonly id: string;
  readonly accelerator: Accelerator;
  readonly memoryMib: number;
  readonly cpus: number;
  /** Port of this host that leads to the guest's sshd; null: none does. */
  readonly sshPort: number | null;
  /** What is written to the scratch disk is lost with the machine, or stays in its file. */
  readonly scratch: 'throwaway' | 'kept';
  /** The guest does not start: its state is going to be loaded. */
  readonly incoming: boolean;
  /** Of the process; in a file; or a copy of that file, of which a page is read when it is used. */
  readonly memory: 'anonymous' | 'file' | 'copy';
  /** The user's own kernel arguments, after ours. */
  readonly append: readonly string[];
  readonly files: MachineFiles;
}

/** Pure: the arguments of `vng` for a machine. */
export function virtmeArguments(plan: MachinePlan): readonly string[] {
  const { files } = plan;
  return [
    ...['--run', files.kernel],
    ...['--name', plan.id],
    ...(plan.accelerator === 'tcg' ? ['--disable-kvm'] : []),
    // Probing for virtiofsd costs seconds, and virtiofs is FUSE: it would disturb what is measured.
    '--force-9p',
    ...['--root', files.emptyRoot],
    // No module is looked for, none is needed.
    '--skip-modules',
    // Without it the kernel's messages are dropped.
    '--verbose',
    '--disable-monitor',
    ...['--user', 'root'],
    ...['--cpus', String(plan.cpus)],
    ...['--memory', `${plan.memoryMib}M`],
    ...['--append', kernelArguments(plan).join(' ')],
    `--qemu-opts=${qemuArguments(plan).join(' ')}`,
  ];
}

/** Pure: what the kernel is told, apart from virtme-ng's own arguments. */
export function kernelArguments(plan: Pick<MachinePlan, 'accelerator' | 'append'>): readonly string[] {
  return [
    // virtme-ng prefers a virtio console, which shows nothing of an early panic; the last one is /dev/console.
    'console=ttyS0',
    // virtme-ng asks for `debug`; every byte on the serial port costs an exit to QEMU.
    'loglevel=7',
    // Our init and the tests' markers are never dropped.
    'printk.devkmsg=on',
    // A fault ends the machine at once: with -no-reboot the reset makes QEMU exit.
    'panic=-1',
    'oops=panic',
    // Emulated CPUs are slow; what looks like a stall there is none.
    ...(plan.accelerator === 'tcg' ? ['rcupdate.rcu_cpu_stall_timeout=120'] : []),
    ...plan.append,
  ];
}

/** Name of the agent's virtio-serial port, by which the guest finds it. */
export const AGENT_PORT = 'org.fusegate.agent';

/** QEMU's name of the port: only a port that has one is told of when the guest opens or closes it. */
export const AGENT_DEVICE = 'agent-port';

/** Pure: what QEMU is told besides what virtme-ng decides; its command line ends with them. */
export function qemuArguments({
  files,
  sshPort,
  scratch,
  incoming,
  memory,
  memoryMib,
}: MachinePlan): readonly string[] {
  const forward = sshPort === null ? '' : `,hostfwd=tcp:127.0.0.1:${sshPort}-:22`;
  return [
    ...['-initrd', files.initramfs],
    ...memoryArguments(memory, memoryMib, files.memory),
    '-no-reboot',
    ...['-chardev', `socket,id=control,path=${files.qmp}`],
    ...['-mon', 'chardev=control,mode=control'],
    ...['-drive', `if=none,id=root,file=${files.rootDisk},format=raw,readonly=on`],
    ...['-device', 'virtio-blk-pci,drive=root'],
    ...[
      '-drive',
      `if=none,id=scratch,file=${files.scratchDisk},format=raw,snapshot=${scratch === 'throwaway' ? 'on' : 'off'}`,
    ],
    ...['-device', 'virtio-blk-pci,drive=scratch'],
    // The file goes with the machine, so that nothing has to reach this machine's own disk in any order.
    ...['-drive', `if=none,id=spare,file=${files.spareDisk},format=raw,cache=unsafe,discard=unmap`],
    ...['-device', `virtio-blk-pci,drive=spare,serial=${SPARE_DISK_SERIAL}`],
    // The guest reaches nothing: neither this machine nor any network.
    ...['-netdev', `user,id=net,restrict=on,ipv6=off${forward}`],
    ...['-device', 'virtio-net-pci,netdev=net,romfile='],
    ...['-device', 'virtio-rng-pci'],
    ...['-chardev', `socket,id=agent,path=${files.agent}`],
    ...['-device', 'virtio-serial-pci,id=ports'],
    ...['-device', `virtserialport,id=${AGENT_DEVICE},bus=ports.0,chardev=agent,name=${AGENT_PORT}`],
    ...(incoming ? ['-incoming', 'defer'] : []),
  ];
}

/** `share=on` is for the machine that is saved; its copies have the file for themselves (vm-templating in QEMU). */
function memoryArguments(memory: MachinePlan['memory'], mib: number, path: string): readonly string[] {
  if (memory === 'anonymous') return [];
  const share = memory === 'file' ? 'on' : 'off';
  return [
    ...['-object', `memory-backend-file,id=memory,size=${mib}M,mem-path=${path},share=${share}`],
    ...['-machine', 'memory-backend=memory'],
  ];
}
