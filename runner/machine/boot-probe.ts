import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '#runner/lib/exec.ts';
import { plainTemporaryDirectory } from '#runner/lib/reaper.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cleanLine } from './console-text.ts';
import { QEMU } from './qemu.ts';

export type ProbeResult =
  { readonly runs: true; readonly proof: string } | { readonly runs: false; readonly reason: string };

/** Each attempt; a machine with working KVM needs a tenth of it. Milliseconds. */
const PROBE_MS = 10_000;

/** QEMU as virtme-ng starts it with KVM, without any device that a probe does not need. */
const KVM_MACHINE = ['-machine', 'accel=kvm', '-cpu', 'host', '-m', '256', '-no-reboot', '-nodefaults'];

/**
 * Whether KVM runs this kernel: it is started without a root filesystem and has to come to the panic that
 * says so. A real-mode instruction or two prove nothing: there are hosts that run those and no kernel.
 */
export async function probeKernel(bzImage: string, signal?: AbortSignal): Promise<ProbeResult> {
  return runProbe(
    [
      ...KVM_MACHINE,
      ...['-display', 'none', '-serial', 'stdio', '-kernel', bzImage],
      ...['-append', 'console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1 loglevel=7'],
    ],
    (_exitCode, output) =>
      output.includes('Kernel panic - not syncing: ') ? 'KVM runs a kernel' : undefined,
    signal,
  );
}

/** The value a probe's boot sector writes to QEMU's isa-debug-exit device. */
const EXIT_VALUE = 0x10;

/**
 * Whether KVM runs a boot sector, and before it the firmware: all that can be told while there is no kernel.
 */
export async function probeBootSector(signal?: AbortSignal): Promise<ProbeResult> {
  const dir = await mkdtemp(join(plainTemporaryDirectory(), 'probe-'));
  try {
    const image = join(dir, 'sector');
    await writeFile(image, bootSector());
    const proof = 'KVM runs a boot sector; no kernel was at hand to try';
    return await runProbe(
      [
        ...KVM_MACHINE,
        ...['-display', 'none', '-device', 'isa-debug-exit,iobase=0x501,iosize=0x02'],
        ...['-drive', `file=${image},format=raw,if=ide`],
      ],
      // The device makes QEMU exit with twice the value and one.
      (exitCode) => (exitCode === EXIT_VALUE * 2 + 1 ? proof : undefined),
      signal,
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Pure: 512 bytes that the BIOS loads and jumps to, in 16-bit real mode. */
export function bootSector(): Uint8Array {
  const sector = Buffer.alloc(512);
  const code = [
    ...[0xba, 0x01, 0x05], // mov dx, 0x501
    ...[0xb0, EXIT_VALUE], // mov al, EXIT_VALUE
    0xee, // out dx, al
    0xf4, // hlt
    ...[0xeb, 0xfd], // jmp back to hlt
  ];
  sector.set(code);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

async function runProbe(
  args: readonly string[],
  proofIn: (exitCode: number | undefined, output: string) => string | undefined,
  signal: AbortSignal | undefined,
): Promise<ProbeResult> {
  try {
    const {
      exitCode,
      signal: killer,
      stdout,
      stderr,
    } = await exec(QEMU, args, { signal, timeoutMs: PROBE_MS });
    const proof = proofIn(exitCode, stdout);
    if (proof !== undefined) return { runs: true, proof };
    const said = stderr
      .split('\n')
      .map((line) => cleanLine(line).trim())
      .find((line) => /kvm|MSR|error|failed/i.test(line));
    return {
      runs: false,
      reason: said ?? `QEMU ${killer ?? `exited ${String(exitCode)}`} in a probe with KVM`,
    };
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'E_TIMEOUT') throw error;
    return { runs: false, reason: `a guest with KVM got nowhere within ${PROBE_MS / 1000} s` };
  }
}
