import { availableParallelism } from 'node:os';
import type { ExecResult } from '#runner/lib/exec.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { execGuarded } from '../guarded.ts';
import type { Toolchain } from './compiler.ts';

/** Fixed, so that the same input gives the same image: Documentation/kbuild/reproducible-builds.rst. */
const reproducible = {
  KBUILD_BUILD_TIMESTAMP: 'Thu Jan  1 00:00:00 UTC 1970',
  KBUILD_BUILD_USER: 'fusegate',
  KBUILD_BUILD_HOST: 'fusegate',
  KBUILD_BUILD_VERSION: '1',
} as const;

/** Set by the user or an outer make, and would change what is built without being in the cache key. */
const cleared = [
  'MAKEFLAGS',
  'MAKELEVEL',
  'MFLAGS',
  'ARCH',
  'CROSS_COMPILE',
  'CC',
  'HOSTCC',
  'LD',
  'LLVM',
  'KCFLAGS',
  'KCPPFLAGS',
  'KAFLAGS',
  'KALLSYMS_EXTRA_PASS',
  'KBUILD_OUTPUT',
  'KCONFIG_CONFIG',
  'KCONFIG_ALLCONFIG',
  'LOCALVERSION',
  'INSTALL_PATH',
  'V',
  'W',
].flatMap((name) => ['-u', name]);

/** Variables of make's command line that decide what is built; in the cache key as they are. */
export function makeVariables(toolchain: Toolchain): readonly string[] {
  return [
    `ARCH=${toolchain.arch}`,
    ...Object.entries(reproducible).map(([name, value]) => `${name}=${value}`),
  ];
}

export interface MakeOptions {
  readonly toolchain: Toolchain;
  /** Source tree. */
  readonly source: string;
  /** Output directory; directly below `source` the build uses relative paths only, so the cache of compiled objects and the image do not depend on where the tree is. */
  readonly objects: string;
  readonly log: string;
  readonly signal: AbortSignal;
  readonly onLine?: (line: string) => void;
}

export interface MakeCommand {
  /** `env` and its arguments: make is started without what the user's environment would tell it. */
  readonly args: readonly string[];
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Pure: how kbuild is called. */
export function makeCommand(
  targets: readonly string[],
  { toolchain, source, objects }: Pick<MakeOptions, 'toolchain' | 'source' | 'objects'>,
): MakeCommand {
  const compilers = toolchain.ccache ? ['CC=ccache gcc', 'HOSTCC=ccache gcc'] : [];
  return {
    args: [
      ...cleared,
      'make',
      `--jobs=${availableParallelism()}`,
      '-C',
      source,
      `O=${objects}`,
      ...makeVariables(toolchain),
      ...compilers,
      ...targets,
    ],
    env: {
      LC_ALL: 'C',
      CCACHE_DIR: cacheDir('ccache'),
      CCACHE_MAXSIZE: '5G',
      CCACHE_NOHASHDIR: '1',
    },
  };
}

/** Runs kbuild; an exit code other than 0 is a result. */
export async function make(targets: readonly string[], options: MakeOptions): Promise<ExecResult> {
  const { args, env } = makeCommand(targets, options);
  return execGuarded('env', args, {
    env,
    log: options.log,
    signal: options.signal,
    ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
  });
}
