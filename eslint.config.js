import tseslint from 'typescript-eslint';
import ava from 'eslint-plugin-ava';

export default tseslint.config(
  { ignores: ['node_modules', 'out', '**/testdata/**'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
  },
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/use-unknown-in-catch-callback-variable': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      complexity: ['error', 16],
      'max-lines': ['error', { max: 350, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
      'max-params': ['error', 5],
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-properties': [
        'error',
        {
          object: 'process',
          property: 'exit',
          message: 'Only runner/cli and the daemon decide when a process ends.',
        },
      ],
    },
  },
  {
    files: ['runner/cli/**', 'rootfs/daemon/**'],
    rules: { 'no-restricted-properties': 'off' },
  },
  {
    files: ['suites/**/*.test.ts', '**/*.test.ts'],
    plugins: { ava },
    rules: {
      'max-lines': 'off',
      'max-lines-per-function': 'off',
      'ava/no-only-test': 'error',
      'ava/no-identical-title': 'error',
      'ava/no-skip-test': 'error',
      'ava/no-async-fn-without-await': 'error',
      'ava/use-t-well': 'error',
    },
  },
);
