import { exec } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';

/** What the kernel is built with; part of the cache key, as another compiler makes another kernel. */
export interface Toolchain {
  /** First lines of `gcc --version` and `ld --version`, and the target. */
  readonly identity: string;
  /** `make ARCH=`. */
  readonly arch: 'x86_64';
  readonly ccache: boolean;
}

/** @throws Failure E_TOOL_MISSING (infra) without gcc or ld, E_ARCH_UNSUPPORTED (infra) off x86-64. */
export async function findToolchain(signal: AbortSignal): Promise<Toolchain> {
  if (process.arch !== 'x64') {
    throw new Failure(
      'E_ARCH_UNSUPPORTED',
      'infra',
      `kernels are built on x86-64 only, this is ${process.arch}`,
      {
        hint: 'use a ready-made image with --kernel',
      },
    );
  }
  const [gcc, target, ld, ccache] = await Promise.all([
    firstLine('gcc', ['--version'], signal),
    firstLine('gcc', ['-dumpmachine'], signal),
    firstLine('ld', ['--version'], signal),
    exec('ccache', ['--version'], { signal }).then(
      (result) => result.exitCode === 0,
      () => false,
    ),
  ]);
  return { identity: `${gcc}; ${target}; ${ld}`, arch: 'x86_64', ccache };
}

async function firstLine(program: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const result = await exec(program, args, { signal, env: { LC_ALL: 'C' } });
  return result.stdout.split('\n')[0]?.trim() ?? '';
}

/** Programs a kernel build calls and that a machine may lack, with the Debian package that has them. */
const buildTools: Readonly<Record<string, string>> = {
  make: 'make',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
  perl: 'perl',
};

/** @throws Failure E_TOOL_MISSING (infra) naming all that are missing and the command that installs them. */
export async function requireBuildTools(signal: AbortSignal): Promise<void> {
  const missing: string[] = [];
  for (const tool of Object.keys(buildTools)) {
    const found = await exec('sh', ['-c', 'command -v "$1"', 'sh', tool], { signal });
    if (found.exitCode !== 0) missing.push(tool);
  }
  if (missing.length === 0) return;
  const packages = missing.map((tool) => buildTools[tool] ?? tool).join(' ');
  throw new Failure('E_TOOL_MISSING', 'infra', `a kernel cannot be built without ${missing.join(', ')}`, {
    hint: `apt-get install ${packages}`,
  });
}
