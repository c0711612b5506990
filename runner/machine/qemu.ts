import { exec, VERSION_MS } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';

export const QEMU = 'qemu-system-x86_64';

/**
 * Version of the QEMU that virtme-ng will start, as `7.2.22`.
 *
 * @throws Failure E_QEMU_MISSING (infra)
 */
export async function qemuVersion(signal?: AbortSignal): Promise<string> {
  try {
    const { stdout } = await exec(QEMU, ['--version'], { signal, timeoutMs: VERSION_MS });
    const version = /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1];
    if (version !== undefined) return version;
    throw new Failure('E_QEMU_MISSING', 'infra', `${QEMU} does not say its version`);
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'E_TOOL_MISSING') throw error;
    throw new Failure('E_QEMU_MISSING', 'infra', `${QEMU} is not installed`, {
      hint: 'apt-get install qemu-system-x86',
      cause: error,
    });
  }
}
